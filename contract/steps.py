"""Every `namespace.verb` a step may use: its parameters, and what a restart in its middle means.

The cloud checks a job against this table when it is saved; the gateway performs it. Parameters
may hold `{{ }}`, so a model checks names and, where a value is no template, its type.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from contract.durations import Duration


class AfterRestart(StrEnum):
    """What it means that the gateway stopped in the middle of a step."""

    REPEAT = "repeat"  # harmless: do it again
    RESUME = "resume"  # ask the device how far it is, and go on from there
    ASK = "ask"  # it may have happened: read back; if that cannot tell, the attempt is interrupted


class Parameters(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Template = Annotated[str, Field(pattern=r"\{\{")]
Timeout = Annotated[Duration, Field(description="a duration: 90s, 15m, PT1H or milliseconds")]


class CommandParameters(Parameters):
    """device.command: send a command of the device's profile, and take its reply as the result."""

    name: str = Field(min_length=1, max_length=128)
    parameters: dict[str, JsonValue] | Template = Field(default_factory=dict)


class ResetParameters(Parameters):
    """device.reset: restart the device. The line may vanish; `device.wait` comes next."""

    force: bool = False


class WaitParameters(Parameters):
    """device.wait: until the device answers again (`online`), or no longer does (`offline`)."""

    until: Literal["online", "offline"] = "online"
    timeout: Timeout | Template | None = None


class UploadParameters(Parameters):
    """firmware.upload: bring an artifact onto the device, going on where the device says it is."""

    artifact: str = Field(min_length=1, max_length=256)
    slot: int | Template | None = None


class NoParameters(Parameters):
    """A step without parameters."""


class VerifyParameters(Parameters):
    """firmware.verify: read the running image back; its version must be this, if one is given."""

    version: str | None = None


class UpdateParameters(Parameters):
    """firmware.update: upload, test, reset, wait, verify and confirm, as one word."""

    artifact: str = Field(min_length=1, max_length=256)
    version: str | None = None
    wait: Timeout | Template = Field(default="2m")


class DelayParameters(Parameters):
    """flow.delay: do nothing for a while."""

    duration: Timeout | Template = Field(alias="for")


class CheckParameters(Parameters):
    """flow.check: fail unless an expression is true."""

    that: str = Field(min_length=1, max_length=4096)
    message: str | None = None


class SetParameters(Parameters):
    """flow.set: put values into the step's result, for later steps."""

    values: dict[str, JsonValue]


class LogParameters(Parameters):
    """flow.log: a line in the task's log."""

    text: str = Field(max_length=4096)
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


@dataclass(frozen=True)
class Verb:
    """One verb of the step library."""

    name: str
    parameters: type[Parameters]
    after_restart: AfterRestart
    summary: str
    macro: bool = False


_R = AfterRestart
_VERBS: Final = (
    Verb("device.command", CommandParameters, _R.ASK, "send a command, and take its reply"),
    Verb("device.reset", ResetParameters, _R.ASK, "restart the device"),
    Verb("device.wait", WaitParameters, _R.REPEAT, "wait until the device is there, or gone"),
    Verb("firmware.upload", UploadParameters, _R.RESUME, "bring an image onto the device"),
    Verb("firmware.test", NoParameters, _R.REPEAT, "have the next boot try the new image"),
    Verb("firmware.verify", VerifyParameters, _R.REPEAT, "read back what runs"),
    Verb("firmware.confirm", NoParameters, _R.REPEAT, "keep the running image for good"),
    Verb("firmware.rollback", NoParameters, _R.REPEAT, "return to the image before"),
    Verb("firmware.update", UpdateParameters, _R.RESUME, "all of the above, in order", macro=True),
    Verb("flow.delay", DelayParameters, _R.REPEAT, "wait for a while"),
    Verb("flow.check", CheckParameters, _R.REPEAT, "fail unless something is true"),
    Verb("flow.set", SetParameters, _R.REPEAT, "compute values for later steps"),
    Verb("flow.log", LogParameters, _R.REPEAT, "write a line into the task's log"),
)

VERBS: Final = {verb.name: verb for verb in _VERBS}
PERFORMED: Final = frozenset(verb.name for verb in _VERBS if not verb.macro)


def problems_of(uses: str, parameters: dict[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    """What is wrong with a step's `with`: pairs of key path and message; empty when it is right."""
    try:
        VERBS[uses].parameters.model_validate(parameters)
    except ValidationError as error:
        return [
            (_keys_of(problem["loc"]), problem["msg"])
            for problem in error.errors(include_url=False, include_context=False)
        ]
    return []


def _keys_of(location: tuple[str | int, ...]) -> tuple[str | int, ...]:
    # pydantic appends the branch of a union to the place of the value; a person has not written it
    return location[:1]
