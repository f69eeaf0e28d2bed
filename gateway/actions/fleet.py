"""fleet.*: what the cloud does for a step, exactly once, however often it is asked."""

from typing import Final

from contract.steps import VERBS, AfterRestart
from gateway.actions.base import Action, Call, Reach, StepDone, StepOutcome, StepRefused
from gateway.errors import CallRefused


class FleetCall:
    """The cloud knows a call by its key: asked again after a restart, it answers what it has."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        try:
            return StepDone(await reach.ask_cloud(call))
        except CallRefused as error:
            return StepRefused(error.code, str(error), error.result)


ACTIONS: Final[dict[str, Action]] = {
    name: FleetCall() for name in VERBS if name.startswith("fleet.")
}
