"""How an SMP device refuses: the codes with their names, and the three ways they are written.

Source: Zephyr, "SMP Protocol Specification", and the error lists of the OS and image groups.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

GENERAL_ERRORS: Final[Mapping[int, str]] = {
    1: "unknown",
    2: "no memory",
    3: "invalid value",
    4: "timeout",
    5: "no entry",
    6: "bad state",
    7: "reply too large",
    8: "not supported",
    9: "corrupt",
    10: "busy",
    11: "access denied",
    12: "SMP version too old",
    13: "SMP version too new",
}
OS_ERRORS: Final[Mapping[int, str]] = {
    1: "unknown",
    2: "invalid format",
    3: "query not known",
    4: "clock not set",
    5: "clock command failed",
    6: "query result not valid",
}
IMAGE_ERRORS: Final[Mapping[int, str]] = {
    1: "unknown",
    2: "flash configuration query failed",
    3: "no image",
    4: "no TLVs",
    5: "invalid TLV",
    6: "several hash TLVs",
    7: "invalid TLV size",
    8: "hash not found",
    9: "no free slot",
    10: "flash open failed",
    11: "flash read failed",
    12: "flash write failed",
    13: "flash erase failed",
    14: "invalid slot",
    15: "no free memory",
    16: "flash context already set",
    17: "flash context not set",
    18: "flash area device missing",
    19: "invalid page offset",
    20: "invalid offset",
    21: "no length",
    22: "image header too short",
    23: "bad image magic",
    24: "bad hash argument",
    25: "bad flash address",
    26: "version read failed",
    27: "version is not newer",
    28: "an image is already pending",
    29: "invalid vector table",
    30: "image too large",
    31: "more data than announced",
    32: "confirmation refused",
    33: "cannot mark the active image for test",
    34: "active slot not known",
}
# Ours: see docs/reference/drivers/smp.md.
CERTIFICATE_GROUP: Final = 74
CERTIFICATE_ERRORS: Final[Mapping[int, str]] = {
    1: "unknown",
    2: "no such certificate slot",
    3: "no key was made, or another one",
    4: "not a certificate",
    5: "the certificate is not of the device's key",
    6: "the chain does not hold",
    7: "no such certificate is installed",
    8: "the certificate is not in use",
    9: "data without a beginning, or too much of it",
    10: "the data is damaged",
}
_GROUP_ERRORS: Final = {0: OS_ERRORS, 1: IMAGE_ERRORS, CERTIFICATE_GROUP: CERTIFICATE_ERRORS}


@dataclass(frozen=True, slots=True)
class SmpError:
    """A device's refusal; `group` is None for a general code (SMP v1, or no such command)."""

    group: int | None
    rc: int
    name: str

    @property
    def is_not_supported(self) -> bool:
        return self.group is None and self.rc == 8

    @classmethod
    def of(cls, rc: int, group: int | None = None) -> "SmpError":
        names = GENERAL_ERRORS if group is None else _GROUP_ERRORS.get(group, {})
        return cls(group, rc, names.get(rc, f"error {rc}"))


def error_in(payload: Mapping[str, Any]) -> SmpError | None:
    """Find the error in a reply: `rc`, `err: {group, rc}`, or Zephyr 3.4's `ret: {group, rc}`.

    `rc: 0` is success (MCUboot's serial recovery always sends it).
    """
    for key in ("err", "ret"):
        nested = payload.get(key)
        if isinstance(nested, Mapping) and (rc := _integer(nested.get("rc"))):
            return SmpError.of(rc, _integer(nested.get("group")))
    if rc := _integer(payload.get("rc")):
        return SmpError.of(rc)
    return None


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
