"""Free TCP ports that two test processes never get twice."""

import fcntl
import os
import socket
import tempfile
from pathlib import Path

# Below the kernel's ephemeral range (32768 and up): no outgoing connection can take one first.
_FIRST, _LAST = 20000, 32000


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on, and nobody else on this machine was given.

    A counter in a locked file hands out each port once per 12,000 calls, so parallel workers
    never race for one between asking and binding.
    """
    counter = Path(tempfile.gettempdir()) / f"roundsman-test-ports.{os.getuid()}"
    with open(counter, "a+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        port = int(file.read() or _FIRST)
        for _ in range(_LAST - _FIRST):
            port = port + 1 if port + 1 < _LAST else _FIRST
            if _can_bind(port):
                file.truncate(0)
                file.write(str(port))
                return port
    raise OSError("no free port on 127.0.0.1")


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
