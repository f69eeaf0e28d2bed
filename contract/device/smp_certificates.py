"""Certificates over SMP: a management group of our own, for devices that keep their own keys.

Certificates travel as DER in pieces, because a message holds a few hundred bytes. Every request
may arrive twice. The group is described in docs/reference/drivers/smp.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import cbor2

from contract.device.smp import Op, Request, SmpInvalid, read_cbor
from contract.device.smp_errors import CERTIFICATE_GROUP

GROUP: Final = CERTIFICATE_GROUP
STATE: Final = 0
CSR: Final = 1
CERTIFICATE: Final = 2
TEST: Final = 3
COMMIT: Final = 4

MAX_BYTES: Final = 16_384


@dataclass(frozen=True, slots=True)
class SlotState:
    """A certificate slot. Fingerprints are sha256 of the DER, empty where there is none.

    `in_use` is what the device connects with: the kept one, unless the new one is on trial.
    `request` names the key that was made last, `why` says why the new one is not in use.
    """

    active: bytes = b""
    in_use: bytes = b""
    pending: bytes = b""
    request: str = ""
    key_id: bytes = b""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a CSR: `data` from `offset` on, of `length` bytes in all."""

    offset: int
    length: int
    data: bytes


def read_state(slot: int) -> Request:
    return Request(Op.READ, GROUP, STATE, {"slot": slot})


def make_csr(slot: int, request: str, subject: str) -> Request:
    """Make a key, unless the one made last has this name; a new key throws the old trial away."""
    return Request(Op.WRITE, GROUP, CSR, {"slot": slot, "req": request, "cn": subject})


def read_csr(slot: int, offset: int) -> Request:
    return Request(Op.READ, GROUP, CSR, {"slot": slot, "off": offset})


def install_first(slot: int, length: int, sha256: bytes, data: bytes) -> Request:
    """Begin to send what `bundle` made; the same once more goes on where the device is."""
    payload = {"slot": slot, "off": 0, "len": length, "sha": sha256, "data": data}
    return Request(Op.WRITE, GROUP, CERTIFICATE, payload)


def install_next(slot: int, offset: int, data: bytes) -> Request:
    return Request(Op.WRITE, GROUP, CERTIFICATE, {"slot": slot, "off": offset, "data": data})


def test(slot: int, fingerprint: bytes) -> Request:
    """Connect with the new certificate; it stays in use until the next restart."""
    return Request(Op.WRITE, GROUP, TEST, {"slot": slot, "fp": fingerprint})


def commit(slot: int, fingerprint: bytes) -> Request:
    return Request(Op.WRITE, GROUP, COMMIT, {"slot": slot, "fp": fingerprint})


def bundle(certificate: bytes, chain: list[bytes]) -> bytes:
    """A certificate and those above it, as a CBOR list of DER."""
    return cbor2.dumps([certificate, *chain])


def unbundle(data: bytes) -> list[bytes]:
    """The DER certificates in `data`, that of the device first. Raises SmpInvalid."""
    found = read_cbor(data)
    if not isinstance(found, list) or not found or not all(isinstance(x, bytes) for x in found):
        raise SmpInvalid("not a list of certificates")
    return found


def slot_state(payload: Mapping[str, Any]) -> SlotState:
    """Read a state reply; what is missing is empty."""
    return SlotState(
        _bytes(payload, "active"),
        _bytes(payload, "use"),
        _bytes(payload, "pending"),
        str(payload.get("req", "")),
        _bytes(payload, "key"),
        str(payload.get("why", "")),
    )


def csr_piece(payload: Mapping[str, Any]) -> Piece:
    """Read a piece of a CSR. Raises SmpInvalid when it is none, or nothing."""
    match payload:
        case {"off": int(offset), "len": int(length), "data": bytes(data)}:
            if data and 0 < length <= MAX_BYTES and 0 <= offset <= length - len(data):
                return Piece(offset, length, data)
    raise SmpInvalid("the reply holds no piece of a CSR")


def offset_in(payload: Mapping[str, Any]) -> int:
    """The offset the device wants next. Raises SmpInvalid."""
    offset = payload.get("off")
    if not isinstance(offset, int) or isinstance(offset, bool) or offset < 0:
        raise SmpInvalid("the reply names no offset")
    return offset


def _bytes(payload: Mapping[str, Any], key: str) -> bytes:
    value = payload.get(key)
    return value if isinstance(value, bytes) else b""
