"""What an action is: one verb of the step library, performed with what a step may reach."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import JsonValue

from contract.messages import ArtifactRef
from contract.steps import AfterRestart
from gateway.drivers.base import (
    Answered,
    DeviceRequest,
    OnProgress,
    Refused,
)


@dataclass(frozen=True)
class Call:
    """A step ready to be performed: its `with` rendered, its time limit resolved.

    `resumed` says that an earlier process began it and did not see the end. `scope` holds the
    names expressions may use; `memory` what earlier steps of the attempt left for later ones.
    """

    step: str
    uses: str
    parameters: Mapping[str, JsonValue]
    timeout_s: float
    resumed: bool
    scope: Mapping[str, JsonValue]
    memory: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True)
class StepDone:
    """`memory` is kept with the attempt, for its later steps."""

    result: JsonValue = None
    memory: Mapping[str, JsonValue] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class StepRefused:
    """Definitely not done. `code` is one of `contract.failures`."""

    code: str
    text: str
    result: JsonValue = None


@dataclass(frozen=True)
class StepUnanswered:
    """It may or may not have happened."""

    code: str
    text: str


StepOutcome = StepDone | StepRefused | StepUnanswered


@dataclass(frozen=True)
class FetchedArtifact:
    """A verified file in the cache, and where a device on the gateway's network may fetch it."""

    path: str
    sha256: str
    size: int
    url: str


class Reach(Protocol):
    """What a step may touch."""

    async def ask_device(
        self, request: DeviceRequest, timeout_s: float, on_progress: OnProgress
    ) -> Answered | Refused:
        """Ask its driver, with its bus held. Raises DeviceUnreachable, ReplyGarbled."""
        ...

    async def fetch(self, artifact: str, on_progress: OnProgress) -> FetchedArtifact:
        """The artifact the job names, verified. Raises ArtifactUnavailable, StepInvalid."""
        ...

    def artifact_ref(self, artifact: str) -> ArtifactRef | None: ...

    def progress(self, percent: float, note: str) -> None: ...

    def log(self, level: str, text: str) -> None:
        """A line in the task's log."""
        ...

    async def sleep(self, seconds: float) -> None:
        """By the gateway's clock, which tests may jump."""
        ...

    def now_ms(self) -> int: ...


class AtOnce:
    """Marks an action that touches nothing outside its task and waits for nothing.

    It follows the step before it in the same turn, and is saved with what comes next.
    """


class Action(Protocol):
    """One verb. Its class says what a restart in its middle means."""

    after_restart: AfterRestart

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        """Raises only GatewayError kinds; the worker makes outcomes of them."""
        ...
