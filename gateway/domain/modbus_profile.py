"""What a profile says of one Modbus device family: its named points and how to ask for them.

Addresses count from 0, as on the wire: what a manual calls holding register 40001 is 0.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Kind = Literal["coil", "discrete", "input", "holding"]
Type = Literal[
    "bool", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "float32", "float64", "string", "bits",
]  # fmt: skip
Order = Literal["big", "little"]
PointName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]

BIT_KINDS: Final = frozenset({"coil", "discrete"})
WRITABLE_KINDS: Final = frozenset({"coil", "holding"})
NUMBERS: Final = frozenset(
    {"int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"}
)
REGISTERS_OF: Final = {
    "bool": 1, "int16": 1, "uint16": 1, "bits": 1, "int32": 2, "uint32": 2, "float32": 2,
    "int64": 4, "uint64": 4, "float64": 4,
}  # fmt: skip
# Modbus Application Protocol 1.1b3, 6.1 and 6.3: what one reply can hold; 6.11, 6.12 for writes.
MAX_READ_REGISTERS: Final = 125
MAX_READ_BITS: Final = 2000
MAX_WRITE_REGISTERS: Final = 123
MAX_WRITE_BITS: Final = 1968


class Section(BaseModel):
    # Most programs use few of these models, so each is built when it is first used.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Point(Section):
    """One value of a device: where it is, what it means, and what may be done with it."""

    kind: Kind = Field(description="the table it is in")
    address: int = Field(ge=0, le=65535, description="of its first register or bit, from 0")
    type: Type = Field(default="uint16", description="coils and discrete inputs are always bool")
    length: int = Field(default=0, ge=0, le=120, description="registers of a string")
    bits: dict[PointName, Annotated[int, Field(ge=0, le=15)]] = Field(
        default_factory=dict, description="names of bits; 0 is the lowest"
    )
    scale: int | float = Field(default=1, description="value = raw * scale + offset")
    offset: int | float = 0
    unit: str = Field(default="", max_length=32, description="for people")
    byte_order: Order | None = Field(default=None, description="inside a register")
    word_order: Order | None = Field(default=None, description="big: the high word comes first")
    access: Literal["read", "write", "read_write"] = "read"
    min: float | None = Field(default=None, description="the least that may be written")
    max: float | None = Field(default=None, description="the most that may be written")
    read_back: bool = Field(
        default=False, description="after a write, read whether it is so; a write may be repeated"
    )
    description: str = Field(default="", max_length=500)

    @model_validator(mode="after")
    def _check(self) -> Self:
        problem = self._problem()
        if problem:
            raise ValueError(problem)
        return self

    def _problem(self) -> str | None:
        if (self.type == "string") != (self.length > 0):
            return "a string has a `length` in registers, and nothing else has"
        if (self.type == "bits") != bool(self.bits):
            return "type `bits` has `bits`, and nothing else has"
        if self.scale == 0:
            return "`scale` cannot be 0"
        scaled = (self.scale, self.offset) != (1, 0) or (self.min, self.max) != (None, None)
        if scaled and not self.is_number:
            return "only numbers have `scale`, `offset`, `min` and `max`"
        if self.access != "read" and self.kind not in WRITABLE_KINDS:
            return f"a point of kind `{self.kind}` cannot be written"
        if self.read_back and self.access != "read_write":
            return "`read_back` needs `access: read_write`"
        if self.kind in BIT_KINDS and self.type not in ("bool", "uint16"):
            return f"a point of kind `{self.kind}` is a bool"
        if self.address + self.size > 65536:
            return "it reaches beyond address 65535"
        return None

    @property
    def is_bit(self) -> bool:
        """One bit of a coil or discrete input."""
        return self.kind in BIT_KINDS

    @property
    def is_number(self) -> bool:
        return not self.is_bit and self.type in NUMBERS

    @property
    def size(self) -> int:
        """Registers, or bits."""
        if self.is_bit:
            return 1
        return self.length if self.type == "string" else REGISTERS_OF[self.type]

    @property
    def is_readable(self) -> bool:
        return self.access != "write"

    @property
    def is_writable(self) -> bool:
        return self.access != "read"


class ModbusProfile(Section):
    """A device family that speaks Modbus."""

    driver: Literal["modbus"]
    name: str = Field(min_length=1, max_length=128, description="also the file's name")
    description: str = ""
    byte_order: Order = Field(default="big", description="of points that do not say it")
    word_order: Order = Field(default="big", description="of points that do not say it")
    max_registers: int = Field(default=MAX_READ_REGISTERS, ge=1, le=MAX_READ_REGISTERS)
    max_bits: int = Field(default=MAX_READ_BITS, ge=1, le=MAX_READ_BITS)
    max_gap: int = Field(
        default=0, ge=0, le=100, description="read over so many unnamed registers or bits"
    )
    single_writes: bool = Field(
        default=True, description="one register or coil is written by functions 6 and 5"
    )
    probe: PointName | None = Field(default=None, description="by default the first readable one")
    facts: list[PointName] = Field(
        default_factory=list, max_length=50, description="read once a link opens, as attributes"
    )
    points: dict[PointName, Point] = Field(min_length=1, max_length=5000)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in [*self.facts, *([self.probe] if self.probe else [])]:
            point = self.points.get(name)
            if point is None or not point.is_readable:
                raise ValueError(f"`{name}` is no point that can be read")
        if self.probe_name is None:
            raise ValueError("one of the points must be readable, so that a device can be probed")
        for name, point in self.points.items():
            if not point.is_bit and point.size > self.max_registers:
                raise ValueError(f"`{name}` does not fit a request of {self.max_registers}")
        return self

    @property
    def probe_name(self) -> str | None:
        readable = (name for name, point in self.points.items() if point.is_readable)
        return self.probe or next(readable, None)

    def orders(self, point: Point) -> tuple[Order, Order]:
        """Byte and word order of a point."""
        return point.byte_order or self.byte_order, point.word_order or self.word_order
