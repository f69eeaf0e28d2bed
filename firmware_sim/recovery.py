"""MCUboot's serial recovery: few commands, and an upload that goes straight into slot 0.

There is no test and no way back: what was in the slot is gone with the first byte. The session
knows no digest, so a first chunk always begins anew. Source: MCUboot, "Serial recovery".
"""

from dataclasses import replace
from typing import Final

from contract.device.mcuboot import HEADER_MAGIC, HEADER_SIZE
from firmware_sim.flash import (
    INVALID_HEADER,
    INVALID_MAGIC,
    TOO_LARGE,
    UNBOOTABLE,
    Chunk,
    Flash,
    Refusal,
    Swap,
    Upload,
    Wanted,
    store,
)

BUF_SIZE: Final = 1024
BUF_COUNT: Final = 1


def receive(flash: Flash, chunk: Chunk) -> tuple[Flash, Wanted | Refusal]:
    """Take one chunk; the answer's offset is what the sender must obey."""
    if chunk.offset == 0:
        refusal = _why_not(flash, chunk)
        if refusal is not None or chunk.total is None:
            return flash, refusal or Refusal(INVALID_HEADER)
        session = Upload(chunk.total, chunk.sha256)
        flash = replace(flash, running=UNBOOTABLE, active_slot=0, swap=Swap.NONE)
    elif flash.upload is None:
        return flash, Wanted(0)
    else:
        session = flash.upload
        if chunk.offset != session.received:
            return flash, Wanted(session.received)
    received = session.received + len(chunk.data)
    if received > session.total:
        return replace(flash, upload=None), Refusal(TOO_LARGE)
    pieces = (*session.pieces, chunk.data)
    answer = Wanted(received, written=len(chunk.data))
    if received < session.total:
        upload = Upload(session.total, session.sha256, pieces, received)
        return replace(flash, upload=upload), answer
    stored = store(b"".join(pieces)) or UNBOOTABLE
    # Nothing marks the image as on test, so it is as good as confirmed.
    return replace(flash, running=stored, upload=None, is_confirmed=True), answer


def _why_not(flash: Flash, chunk: Chunk) -> Refusal | None:
    if len(chunk.data) < HEADER_SIZE or chunk.total is None:
        return Refusal(INVALID_HEADER)
    if int.from_bytes(chunk.data[:4], "little") != HEADER_MAGIC:
        return Refusal(INVALID_MAGIC)
    return Refusal(TOO_LARGE) if chunk.total > flash.slot_size else None
