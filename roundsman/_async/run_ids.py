"""Run ids chosen by the client, so that a start that is repeated stays one start."""

import os
import time
import uuid


def new_run_id() -> str:
    """A UUIDv7: 48 bits of milliseconds, then chance. Source: RFC 9562, section 5.7."""
    value = int.from_bytes((time.time_ns() // 1_000_000).to_bytes(6, "big") + os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))
