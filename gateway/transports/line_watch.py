"""What all links over a serial line do about a line that chatters."""

import asyncio

from gateway.errors import LineQuarantined
from gateway.transports.base import ByteLink, Turns


def check_line(turns: Turns, bus: str) -> None:
    """Raises LineQuarantined where nobody may use the line now."""
    why = turns.shut(bus)
    if why is not None:
        raise LineQuarantined(why)


async def hear_garbage(turns: Turns, bus: str, port: ByteLink, line_s: float) -> None:
    """Bytes that were no frame took `line_s` seconds; lets go of the port where that is too much.

    Raises LineQuarantined then.
    """
    turns.garbage(bus, line_s)
    try:
        check_line(turns, bus)
    except LineQuarantined:
        await port.close()
        raise


def look_at(reader: "asyncio.Task[None]") -> None:
    """For a reader that may end with nobody waiting: whoever asks next opens the line again."""
    if not reader.cancelled():
        reader.exception()
