"""What an action is: one verb of the step library, performed with what a step may reach."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from contract.messages import ArtifactRef
from contract.steps import AfterRestart
from gateway.domain.facts import Acknowledgment
from gateway.domain.sql_values import Statement
from gateway.drivers.base import (
    Answered,
    DeviceRequest,
    OnProgress,
    Refused,
    StopWord,
)
from gateway.errors import StepInvalid
from gateway.transports.base import MessageLink
from gateway.transports.web import WebClient


@dataclass(frozen=True)
class Call:
    """A step ready to be performed: its `with` rendered, its time limit resolved.

    `resumed` says that an earlier process began it and did not see the end. `scope` holds the
    names expressions may use; `memory` what earlier steps of the attempt left for later ones.
    `key` names what it asks of the cloud, if the job gave it a name; `item` is its place in a loop.
    """

    step: str
    uses: str
    parameters: Mapping[str, JsonValue]
    timeout_s: float
    resumed: bool
    scope: Mapping[str, JsonValue]
    memory: Mapping[str, JsonValue] = field(default_factory=dict)
    key: str | None = None
    item: int | None = None


@dataclass(frozen=True)
class StepDone:
    """`memory` is kept with the attempt, for its later steps; `acknowledgment` says how it ends."""

    result: JsonValue = None
    memory: Mapping[str, JsonValue] = field(default_factory=dict)
    note: str = ""
    acknowledgment: Acknowledgment | None = None


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


class Mailer(Protocol):
    """The way to a mail server."""

    async def send(self, to: Sequence[str], subject: str, text: str, message_id: str) -> None:
        """Raises StepInvalid (`mail_failed`) when the server does not take it."""
        ...


class Texter(Protocol):
    """The way to a service that sends text messages."""

    async def deliver(self, to: str, text: str, key: str) -> None:
        """Raises StepInvalid (`sms_failed`) when the service does not take it."""
        ...


class QueryAsker(Protocol):
    """The way to the databases that are configured."""

    def is_read_only(self, name: str) -> bool:
        """Raises StepInvalid (`database_unknown`)."""
        ...

    async def query(self, name: str, statement: Statement) -> dict[str, JsonValue]:
        """Raises StepInvalid (`sql_failed`), or DeviceUnreachable when it may have happened."""
        ...


class Reach(Protocol):
    """What a step may touch."""

    @property
    def web(self) -> WebClient: ...

    @property
    def stop(self) -> StopWord:
        """Tells of a cancel while the step is under way."""
        ...

    @property
    def messages(self) -> MessageLink:
        """The local broker. Raises StepInvalid (`broker_unavailable`) where there is none."""
        ...

    @property
    def mail(self) -> Mailer:
        """Raises StepInvalid where no mail server is configured."""
        ...

    @property
    def sms(self) -> Texter:
        """Raises StepInvalid where no service for text messages is configured."""
        ...

    @property
    def databases(self) -> QueryAsker: ...

    async def ask_cloud(self, call: Call) -> JsonValue:
        """Have the cloud do it, once; asked until it answers. Raises CallRefused."""
        ...

    async def perform(self, call: Call) -> StepOutcome:
        """Another step, inside this one. Never raises what a step may raise."""
        ...

    def keep(self, result: JsonValue) -> None:
        """What there is of the result, should the step's time end."""
        ...

    async def ask_device(
        self, request: DeviceRequest, timeout_s: float, on_progress: OnProgress
    ) -> Answered | Refused:
        """Ask its driver, with its bus held. Raises DeviceUnreachable, ReplyGarbled."""
        ...

    async def claim(self, devices: Sequence[str]) -> None:
        """Have these devices of the gateway for the attempt, until it ends; waits for them.

        Raises StepInvalid (`unknown_device`).
        """
        ...

    def member(self, device: str) -> "Reach":
        """The same reach on a device that was claimed."""
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


M = TypeVar("M", bound=BaseModel)


def parsed(model: type[M], call: Call) -> M:
    """A step's parameters as rendered. Raises StepInvalid when a value is not what it must be."""
    try:
        return model.model_validate(dict(call.parameters))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise StepInvalid(f"{call.uses}: {place}: {first['msg']}") from error


def stamp_of(call: Call) -> dict[str, str]:
    """Run, task and attempt, as steps tell others where they come from."""
    task, run = call.scope.get("task"), call.scope.get("run")
    known = task if isinstance(task, dict) else {}
    return {
        "run": str(run.get("id", "")) if isinstance(run, dict) else "",
        "task": str(known.get("id", "")),
        "attempt": str(known.get("attempt", "")),
    }


def restart_request(call: Call, uses: str = "") -> str:
    """The name of the restart that a step asks for; the same whenever it is taken up again.

    `uses` names another verb's, of the same step.
    """
    stamp = stamp_of(call)
    return f"{stamp['task']}/{stamp['attempt']}/{call.step}/{uses or call.uses}"


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
