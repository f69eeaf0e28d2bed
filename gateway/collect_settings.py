"""What the settings say of a device's state: what is asked or heard, how often, what is kept."""

from datetime import timedelta
from typing import Annotated, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    model_validator,
)

from contract.durations import Duration, parse_duration
from gateway.domain.collecting import Worth
from gateway.drivers.base import (
    Command,
    DriverKind,
    Listening,
    OnValues,
    ReadPoints,
    Surroundings,
)
from gateway.errors import DeviceUnreachable
from gateway.runner.collects import Ask, Collects, Hear

SHORTEST: Final = timedelta(milliseconds=100)


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _not_too_often(value: timedelta) -> timedelta:
    if value < SHORTEST:
        raise ValueError("every: at least 100ms")
    return value


class Collect(BaseModel):
    """One of `read`, `command` and `published`, and which of its values are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    read: Annotated[list[str], BeforeValidator(_listed)] = Field(
        default_factory=list, max_length=200, description="points of the device, by name"
    )
    command: str | None = Field(
        default=None, description="a command that does no harm, such as `version`"
    )
    parameters: dict[str, JsonValue] = Field(default_factory=dict, description="of the command")
    published: bool = Field(
        default=False, description="hear what the device says of its state by itself"
    )
    every: Annotated[Duration, AfterValidator(_not_too_often)] = Field(
        default=parse_duration("1m"),
        description="how often it is asked; also how often it is woken",
    )
    timeout: Duration = Field(
        default=parse_duration("10s"), description="how long one answer may take"
    )
    name: str | None = Field(
        default=None,
        alias="as",
        min_length=1,
        max_length=128,
        description="keep the whole result under this name, instead of its own keys",
    )
    deadband: float | dict[str, float] = Field(
        default=0.0,
        description="numbers that change by no more are not kept; one for all, or by name",
    )
    at_least: Duration = Field(
        default=parse_duration("1h"), description="a value that does not change is kept so often"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = (bool(self.read), self.command is not None, self.published)
        if sum(given) != 1:
            raise ValueError("give one of `read`, `command` and `published`")
        if self.published and "every" in self.model_fields_set:
            raise ValueError("`published` is heard when the device says it: it takes no `every`")
        if self.parameters and self.command is None:
            raise ValueError("`parameters` are of a `command`")
        return self

    @property
    def worth(self) -> Worth:
        at_least_ms = self.at_least // timedelta(milliseconds=1)
        if isinstance(self.deadband, dict):
            return Worth(deadbands=self.deadband, at_least_ms=at_least_ms)
        return Worth(deadband=self.deadband, at_least_ms=at_least_ms)


def collects(
    collect: Collect, device: str, kind: DriverKind, options: object, surroundings: Surroundings
) -> Collects:
    """What the collector is told of one item."""
    if collect.published:

        def listen(on_values: OnValues) -> Listening:
            if kind.listen is None:
                raise DeviceUnreachable(f"device {device} is not heard")
            return kind.listen(device, options, surroundings, on_values)

        return Hear(listen, collect.worth, collect.name)
    request: ReadPoints | Command = ReadPoints(tuple(collect.read))
    if collect.command is not None:
        request = Command(collect.command, collect.parameters)
    every_ms = collect.every // timedelta(milliseconds=1)
    return Ask(request, every_ms, collect.timeout.total_seconds(), collect.worth, collect.name)
