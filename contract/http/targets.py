"""What a job may be about beside devices: groups, users, data tables; edits, previews, secrets."""

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, JsonValue, StringConstraints

from contract.http import Body
from contract.ids import Id

MAX_VALUES_BYTES: Final = 32 * 1024
MAX_ROWS_AT_ONCE: Final = 1_000
MAX_MEMBERS_AT_ONCE: Final = 10_000
# A row's own fields, and the one word that queries give a meaning of its own.
RESERVED_COLUMNS: Final = ("id", "table", "group")


def _key(name: str) -> str:
    if not name.isprintable() or any(sign in name for sign in '."\\') or name.startswith("$"):
        raise ValueError('a name holds no dot, `"` or backslash, and does not begin with `$`')
    return name


Key = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_key)]
Values = dict[Key, JsonValue]
Name = Annotated[str, StringConstraints(max_length=256, strip_whitespace=True)]
Grouped = Literal["device", "user"]


class EditTarget(Body):
    """Tags and attributes to set; a null takes one away. What is not named stays as it is."""

    tags: Values | None = None
    attributes: Values | None = None


class EditDevice(EditTarget):
    """Edits stand over what the device's gateway says, also later."""


class EditGateway(EditTarget):
    name: Name | None = None
    type: Name | None = None


class NewGroup(Body):
    """A group with listed `members`, or of everything that `query` fits."""

    id: Id
    name: Name = ""
    type: Name = ""
    resource: Grouped = "device"
    query: JsonValue = Field(default=None, description="as JSON, or in its short form as a text")
    members: list[Id] = Field(default_factory=list, max_length=MAX_MEMBERS_AT_ONCE)
    tags: Values = Field(default_factory=dict)
    attributes: Values = Field(default_factory=dict)


class EditGroup(EditTarget):
    name: Name | None = None
    type: Name | None = None
    query: JsonValue = None


class ChangeMembers(Body):
    add: list[Id] = Field(default_factory=list, max_length=MAX_MEMBERS_AT_ONCE)
    remove: list[Id] = Field(default_factory=list, max_length=MAX_MEMBERS_AT_ONCE)


class Group(Body):
    id: str
    name: str = ""
    type: str = ""
    resource: Grouped = "device"
    query: JsonValue = None
    members: int = Field(default=0, description="how many there are now")
    tags: dict[str, JsonValue] = Field(default_factory=dict)
    attributes: dict[str, JsonValue] = Field(default_factory=dict)
    created_at: datetime
    updated_at: datetime


class Member(Body):
    id: str


class NewUser(Body):
    """A person jobs are about; no login."""

    id: Id
    name: Name = ""
    type: Name = ""
    email: Name = ""
    phone: Name = ""
    tags: Values = Field(default_factory=dict)
    attributes: Values = Field(default_factory=dict)


class EditUser(EditTarget):
    name: Name | None = None
    type: Name | None = None
    email: Name | None = None
    phone: Name | None = None


class User(Body):
    id: str
    name: str = ""
    type: str = ""
    email: str = ""
    phone: str = ""
    tags: dict[str, JsonValue] = Field(default_factory=dict)
    attributes: dict[str, JsonValue] = Field(default_factory=dict)
    created_at: datetime
    updated_at: datetime


def _column(name: str) -> str:
    if name in RESERVED_COLUMNS:
        raise ValueError(f"`{name}` has a meaning of its own; choose another name")
    return _key(name)


class Column(Body):
    """A typed column; a row without a value for it has none there."""

    name: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_column)]
    type: Literal["text", "number", "boolean", "json"] = "text"


class NewTable(Body):
    """A data table. Without columns its rows may hold anything."""

    id: Id
    name: Name = ""
    columns: list[Column] = Field(default_factory=list, max_length=200)


class Table(Body):
    id: str
    name: str = ""
    columns: list[Column] = Field(default_factory=list)
    rows: int = 0
    created_at: datetime
    updated_at: datetime


class NewRows(Body):
    rows: list[dict[str, JsonValue]] = Field(min_length=1, max_length=MAX_ROWS_AT_ONCE)


class EditRow(Body):
    """Values to set; a null takes one away. What is not named stays as it is."""

    values: dict[str, JsonValue]


class Row(Body):
    """A row of a data table. `id` is its key within the table, never used again."""

    id: int
    table: str
    values: dict[str, JsonValue] = Field(default_factory=dict)
    updated_at: datetime


class Excluded(Body):
    """Targets that a run would create tasks for, but that could not start now, and why."""

    reason: str = Field(description="a code of the waiting reference, such as `gateway_offline`")
    sentence: str = ""
    count: int
    sample: list[str] = Field(default_factory=list)


class PreviewAsked(Body):
    """What a preview brings instead of the job's own, as a run would."""

    context: dict[str, JsonValue] | None = None
    query: JsonValue = None


class Preview(Body):
    """What a run would be about: how many targets, 20 of them, and who would have to wait."""

    resource: str
    table: str = ""
    count: int
    tasks: int = Field(default=0, description="as many as targets, but for batch iteration")
    sample: list[dict[str, JsonValue]] = Field(default_factory=list)
    excluded: list[Excluded] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    query: JsonValue = None


class SetSecret(Body):
    value: Annotated[str, Field(min_length=1, max_length=16_384)]


class Secret(Body):
    """A secret without its value, which nobody reads back."""

    name: str
    created_at: datetime
    updated_at: datetime
    updated_by: str = ""


class Selection(Body):
    """Which targets an export or a deletion is about."""

    query: JsonValue = Field(default=None, description="as JSON, or in its short form as a text")
    all: bool = Field(default=False, description="a deletion without a query needs this word")
