"""flow.delay, check, set and log: steps that touch no device."""

from contract.durations import parse_duration
from contract.steps import AfterRestart
from contract.template_dialect import TemplateError, is_true
from gateway.actions.base import Action, AtOnce, Call, Reach, StepDone, StepOutcome, StepRefused
from gateway.errors import StepInvalid

TELL_EVERY_S = 5.0


class FlowDelay:
    """Do nothing for a while; after a restart of the gateway, for all of it again."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        try:
            total_s = parse_duration(call.parameters.get("for")).total_seconds()
        except ValueError as error:
            raise StepInvalid(f"flow.delay: {error}") from error
        left_s = total_s
        while left_s > 0:
            reach.progress(100 * (1 - left_s / total_s), f"{left_s:.0f} s left")
            pause_s = min(left_s, TELL_EVERY_S)
            await reach.sleep(pause_s)
            left_s -= pause_s
        return StepDone()


class FlowCheck(AtOnce):
    """Fail unless an expression is true. One in braces has been computed already."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        that = call.parameters.get("that")
        try:
            holds = is_true(that, call.scope) if isinstance(that, str) else bool(that)
        except TemplateError as error:
            return StepRefused("template_failed", str(error))
        if holds:
            return StepDone(True)
        message = call.parameters.get("message") or f"not true: {that}"
        return StepRefused("expectation_failed", str(message))


class FlowSet(AtOnce):
    """Values, rendered before the step began, become its result."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        return StepDone(call.parameters.get("values"))


class FlowLog(AtOnce):
    """A line in the task's log."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        text = call.parameters.get("text", "")
        level = call.parameters.get("level", "INFO")
        reach.log(str(level), text if isinstance(text, str) else str(text))
        return StepDone()


ACTIONS: dict[str, Action] = {
    "flow.delay": FlowDelay(),
    "flow.check": FlowCheck(),
    "flow.set": FlowSet(),
    "flow.log": FlowLog(),
}
