"""Certificates over SMP, request by request: a CSR read in pieces, a certificate sent in pieces.

Every request may arrive twice, so a lost reply costs a repetition and nothing else.
"""

import binascii
from collections.abc import Awaitable, Callable, Iterator
from hashlib import sha256
from typing import Final

from contract.device import smp
from contract.device import smp_certificates as wire
from contract.device.smp import Request, Response, SmpError, SmpInvalid
from gateway.errors import ReplyGarbled, StepInvalid

Ask = Callable[[Request], Awaitable[Response]]
OnPercent = Callable[[float, str], None]

# What a device without the answer would keep us busy with: a CSR has a few pieces.
MAX_EXCHANGES: Final = 500
_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_END: Final = "-----END CERTIFICATE-----"


async def read_state(ask: Ask, slot: int) -> wire.SlotState | SmpError:
    reply = await ask(wire.read_state(slot))
    return reply.error or wire.slot_state(reply.payload)


async def make_csr(ask: Ask, slot: int, request: str, subject: str) -> tuple[str, str] | SmpError:
    """CSR in PEM and the key's id in hex. Raises ReplyGarbled when its pieces do not fit."""
    made = await ask(wire.make_csr(slot, request, subject))
    if made.error is not None:
        return made.error
    data = b""
    for _ in range(MAX_EXCHANGES):
        reply = await ask(wire.read_csr(slot, len(data)))
        if reply.error is not None:
            return reply.error
        try:
            piece = wire.csr_piece(reply.payload)
        except SmpInvalid as error:
            raise ReplyGarbled(str(error)) from error
        if piece.offset != len(data):
            break
        data += piece.data
        if len(data) == piece.length:
            key_id = made.payload.get("key")
            return _pem(data), key_id.hex() if isinstance(key_id, bytes) else ""
    raise ReplyGarbled("the pieces of the CSR do not fit together")


async def install(
    ask: Ask, slot: int, certificate: str, chain: str, buf_size: int, on_progress: OnPercent
) -> SmpError | None:
    """Send certificate and chain. Raises StepInvalid for what is no PEM, and ReplyGarbled."""
    (first, *_), above = list(_ders(certificate)) or [b""], list(_ders(chain))
    if not first:
        raise StepInvalid("`certificate` is no PEM")
    data = wire.bundle(first, above)
    digest = sha256(data).digest()
    room_first = smp.max_chunk(buf_size, wire.install_first(slot, len(data), digest, b""))
    room_next = smp.max_chunk(buf_size, wire.install_next(slot, len(data), b""))
    if room_first < 1 or room_next < 1:
        raise StepInvalid("the device's buffer is too small for certificates", "verb_unsupported")
    offset = 0
    for _ in range(MAX_EXCHANGES):
        if offset == 0:
            request = wire.install_first(slot, len(data), digest, data[:room_first])
        else:
            request = wire.install_next(slot, offset, data[offset : offset + room_next])
        reply = await ask(request)
        if reply.error is not None:
            return reply.error
        try:
            offset = wire.offset_in(reply.payload)
        except SmpInvalid as error:
            raise ReplyGarbled(str(error)) from error
        if offset >= len(data):
            return None
        on_progress(100 * offset / len(data), f"{offset} of {len(data)} bytes")
    raise ReplyGarbled("the device does not take the certificate's pieces in order")


def _pem(csr: bytes) -> str:
    text = binascii.b2a_base64(csr, newline=False).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    head, tail = "-----BEGIN CERTIFICATE REQUEST-----", "-----END CERTIFICATE REQUEST-----"
    return "\n".join([head, *lines, tail, ""])


def _ders(pem: str) -> Iterator[bytes]:
    """The certificates in a PEM text. Raises StepInvalid."""
    for part in pem.split(_BEGIN)[1:]:
        try:
            yield binascii.a2b_base64("".join(part.partition(_END)[0].split()), strict_mode=True)
        except (binascii.Error, ValueError) as error:
            raise StepInvalid(f"not a certificate in PEM: {error}") from error
