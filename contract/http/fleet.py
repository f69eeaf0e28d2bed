"""Devices, gateways and artifacts."""

from datetime import datetime
from typing import Literal

from pydantic import Field, JsonValue

from contract.http import Body
from contract.http.runs import Waiting
from contract.ids import Id


class Device(Body):
    id: str
    gateway: str | None
    claimed_by: list[str] = Field(
        default_factory=list, description="other gateways that have it in their configuration"
    )
    type: str = ""
    name: str = ""
    driver: str = ""
    address: str = ""
    link: str = "unknown"
    tags: dict[str, JsonValue] = Field(default_factory=dict)
    attributes: dict[str, JsonValue] = Field(default_factory=dict)
    state: dict[str, JsonValue] = Field(default_factory=dict)
    held_by: str | None = None
    last_heard_at: datetime | None = None
    created_at: datetime | None = None


class GatewayProfile(Body):
    """A profile that was deployed to a gateway.

    `sha256` is what it is to hold: while `pending`, it has not said so yet. `refused` with the
    gateway's reason in `problem`: it goes on with `sha256`, or without one.
    """

    name: str
    gateway: str
    sha256: str | None = None
    size: int = 0
    state: Literal["pending", "held", "refused"]
    problem: str = ""
    wanted_at: datetime


class TurnedAway(Body):
    """A process that said hello under a gateway's name and was not let in."""

    code: str
    why: str
    at: datetime


class RetireGateway(Body):
    """`delete_devices`: they go with it; otherwise they stay, without a gateway."""

    delete_devices: bool = False
    reason: str = Field(default="", max_length=1000)


class MoveDevice(Body):
    """Which of the gateways that have a device in their configuration is to own it.

    `force`: also while an attempt is open on the one before; that ends as `gateway_lost`.
    """

    to: Id
    force: bool = False


class NewGateway(Body):
    id: Id
    name: str = Field(default="", max_length=256)


class Gateway(Body):
    """`online` is a hint: a message of the current session within three heartbeats.

    `central`: it runs beside the cloud, for tasks without a device. One that is `stopping` is
    offered nothing more, and `stopped` when what was in flight there has ended; `retired` is for
    good, until it is created again. `foreign_devices` are those of its configuration that another
    gateway owns, of which `claims` names the first; `turned_away` is who last came under its name
    and was not let in.
    """

    id: str
    name: str = ""
    central: bool = False
    type: str = ""
    tags: dict[str, JsonValue] = Field(default_factory=dict)
    attributes: dict[str, JsonValue] = Field(default_factory=dict)
    online: bool = False
    in_conflict: bool = False
    state: Literal["working", "stopping", "stopped", "retired"] = "working"
    stop_run: str | None = Field(default=None, description="the operation that stopped it")
    version: str = ""
    verbs: list[str] = Field(default_factory=list)
    journal: str | None = None
    devices: int = 0
    open_tasks: int = 0
    refused_items: int = 0
    orphaned_tasks: int = 0
    foreign_devices: int = 0
    claims: list[str] = Field(default_factory=list)
    turned_away: TurnedAway | None = None
    dropped: dict[str, int] = Field(
        default_factory=dict,
        description="what its full outbox has dropped, by class, since its journal was made",
    )
    health: dict[str, JsonValue] = Field(
        default_factory=dict, description="what it says of itself with every heartbeat"
    )
    profiles: list[GatewayProfile] = Field(
        default_factory=list, description="those that were deployed, not those of its own folder"
    )
    last_heard_at: datetime | None = None
    created_at: datetime | None = None
    waiting_for: Waiting | None = None


class GatewayWithToken(Gateway):
    """The answer to creating a gateway: its token is shown here, and never again."""

    token: str


class Recovery(Body):
    """How a cloud stands that was restored from a backup.

    While `recovering` nothing is fired or offered, until the gateways in `awaited` (the first 50
    of them) have said hello, or a person releases it.
    """

    recovering: bool
    incarnation: str
    restored_at: datetime | None = None
    awaited: list[str] = Field(default_factory=list)


class Orphan(Body):
    """An attempt in a gateway's journal whose task the cloud has never heard of.

    `outcome` is what the gateway told of it, whole, once it was asked.
    """

    gateway: str
    task: str
    attempt: int
    revision: int
    status: str
    outcome: dict[str, JsonValue] | None = None
    at: datetime


class Artifact(Body):
    """An immutable file. `image_version` and `image_hash` are set when it is an MCUboot image."""

    name: str
    sha256: str
    size: int
    media_type: str = "application/octet-stream"
    image_version: str | None = None
    image_hash: str | None = None
    created_at: datetime
    created_by: str = ""


class Version(Body):
    product: str = "roundsman"
    version: str
    incarnation: str = ""
    recovering: bool = False
