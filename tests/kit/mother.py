"""A process that has imported one of our programs, and forks copies of itself that become it.

`python -m tests.kit.mother PROGRAM FD`. To import the cloud costs two seconds of processor, more
than most stories do. A copy runs what `python -m PROGRAM` runs, or the console script, as a process
of its own. Asked over the socket FD in JSON lines, see `tests/kit/warm_starts.py`.
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

# What each imports at once, and then when it starts to work.
PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {
    "cloud": (
        "cloud.__main__", "cloud.app", "cloud.domain.context_schemas",
        "contract.template_parser", "alembic.command", "jsonschema", "h11", "httptools",
        "uvicorn.loops.auto", "uvicorn.lifespan.off", "uvicorn.protocols.http.auto",
        "uvicorn.protocols.http.httptools_impl", "uvicorn.protocols.websockets.auto",
        "sqlalchemy.dialects.sqlite", "psycopg", "psycopg_binary",
        "sqlalchemy.dialects.postgresql.psycopg", "multiprocessing.util",
    ),
    "gateway": ("gateway.__main__", "contract.template_parser"),
    "firmware_sim": ("firmware_sim.__main__",),
    "roundsman": ("roundsman.cli.app", "roundsman._sync.client", "rich.console", "rich.table"),
}  # fmt: skip
_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    program, number = sys.argv[1], int(sys.argv[2])
    for name in PROGRAMS[program]:
        with suppress(ImportError):
            importlib.import_module(name)
    sys.modules.pop(f"{program}.__main__", None)  # runpy wants to be the first to run it
    gc.collect()
    gc.freeze()  # what is shared stays shared: the copies' collectors leave it alone
    request = _until_born(socket.socket(fileno=number))
    if request is not None:
        _become(program, request)


def _until_born(asked: socket.socket) -> dict[str, Any] | None:
    """Answer requests. Returns in each copy with its own, and in the mother when nobody asks."""
    mother = os.getpid()
    with asked, asked.makefile("rw", encoding="utf-8") as lines:
        for line in lines:
            request: dict[str, Any] = json.loads(line)
            if "poll" in request:
                pid, status = os.waitpid(request["poll"], os.WNOHANG)
                answer = {"ended": os.waitstatus_to_exitcode(status) if pid else None}
            else:
                born = os.fork()
                if born == 0:
                    _die_with(mother)
                    return request
                answer = {"pid": born}
            lines.write(json.dumps(answer) + "\n")
            lines.flush()
    return None


def _die_with(mother: int) -> None:
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != mother:
        os._exit(1)


def _become(program: str, request: Mapping[str, Any]) -> None:
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.environ.update(request["env"])
    sys.argv = [program, *request["arguments"]]
    if program == "roundsman":
        from roundsman.cli.app import main as console_script

        console_script()
        return
    runpy.run_module(program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
