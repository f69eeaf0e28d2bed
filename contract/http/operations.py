"""Background operations on selections: devices acted on, gateways stopped, profiles deployed."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from contract.durations import Duration
from contract.http import Body
from contract.http.targets import MAX_MEMBERS_AT_ONCE, Selection, Values
from contract.ids import Id
from contract.messages import ProfileName


class StopGateways(Selection):
    """Which gateways to stop or to start: by query, listed, or all of them."""

    gateways: list[Id] = Field(default_factory=list, max_length=MAX_MEMBERS_AT_ONCE)
    reason: str = Field(default="", max_length=1024)


class WithdrawProfile(Selection):
    """Which gateways hold no deployed profile of that name any more."""

    name: ProfileName
    gateways: list[Id] = Field(default_factory=list, max_length=MAX_MEMBERS_AT_ONCE)
    reason: str = Field(default="", max_length=1024)


class DeployProfile(WithdrawProfile):
    """Which gateways hold an artifact, named or by its sha256, as the profile of that name."""

    artifact: str = Field(min_length=1, max_length=128)


class EditThem(Body):
    """Set tags and attributes, over what gateways say; a null takes one away."""

    do: Literal["edit"]
    tags: Values = Field(default_factory=dict)
    attributes: Values = Field(default_factory=dict)

    @model_validator(mode="after")
    def _something(self) -> "EditThem":
        if not self.tags and not self.attributes:
            raise ValueError("give tags or attributes to set")
        return self


class HoldThem(Body):
    """Let nothing new start on them; without `lasts` until a person lifts the holds."""

    do: Literal["hold"]
    reason: str = Field(default="", max_length=1024)
    lasts: Duration | None = None


class LiftThem(Body):
    """Lift the holds on them; one on their gateway or site stays."""

    do: Literal["lift_hold"]


class RunOnThem(Body):
    """Start one run of a job, about them instead of the job's own targets."""

    do: Literal["start_job"]
    job: str = Field(min_length=1, max_length=63)
    context: dict[str, JsonValue] | None = None


class DeleteThem(Body):
    """Delete those that no gateway owns and no task holds."""

    do: Literal["delete"]


Action = Annotated[
    EditThem | HoldThem | LiftThem | RunOnThem | DeleteThem, Field(discriminator="do")
]


class ActOnDevices(Selection):
    """One action on every device that a query fits, or on listed ones."""

    devices: list[Id] = Field(default_factory=list, max_length=MAX_MEMBERS_AT_ONCE)
    action: Action
