"""What an updater says: the words of the program that replaces the gateway's own software.

docs/how-to/update-a-gateway.md describes them for those who write one.
"""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from contract.ids import Sha256

MAX_NOTE: Final = 200
# Graphic ASCII, so that a version is one word everywhere it is shown.
Version = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,64}$")]


class UpdaterUnreadable(ValueError):
    """It did not say what an updater says."""


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Software(_Said):
    """One version of our software: `sha256` is that of the file it was staged from."""

    version: Version
    sha256: Sha256


class UpdaterStatus(_Said):
    """What `status` says.

    `staged` is what the other place holds, also when that ran before; `pending`: the next start
    runs it. `confirmed` is about what runs: if not, the start after this one runs what was before.
    """

    running: Software
    staged: Software | None = None
    confirmed: bool
    pending: bool = False
    can_roll_back: bool = False


class _Progress(_Said):
    progress: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
    note: str = ""


class _RolledBack(_Said):
    restart_needed: bool = True


def parse_status(said: bytes) -> UpdaterStatus:
    """The object that `status` printed. Raises UpdaterUnreadable."""
    try:
        return UpdaterStatus.model_validate_json(said)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "it"
        raise UpdaterUnreadable(f"its status cannot be read: {place}: {first['msg']}") from error


def parse_progress(line: bytes) -> tuple[float, str] | None:
    """Percent and a note, from a line that `stage` printed; None for any other line."""
    try:
        said = _Progress.model_validate_json(line)
    except ValidationError:
        return None
    return said.progress, said.note[:MAX_NOTE]


def is_restart_needed(said: bytes) -> bool:
    """Whether what `rollback` chose runs only after a restart, which is so if it does not say."""
    try:
        return _RolledBack.model_validate_json(said).restart_needed
    except ValidationError:
        return True
