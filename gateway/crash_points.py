"""Named places at which tests end this process without a word; in production they do nothing.

Whether any is armed is decided once, at import. `python -m gateway.crash_points` lists them.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Final

from contract.crash_points import CRASH_AT, CRASH_LOG, CRASH_SEED, CrashPlan, parse_rules

Reach = Callable[..., None]

NAMES: Final[Mapping[str, str]] = {
    "journal.before_commit": "what a function asked of the journal is not in it yet",
    "journal.after_commit": "it is in the journal; nobody has been told",
    "journal.in_offer": "a task of an offer is about to be taken",
    "cloud_link.before_take": "a message of the cloud has come; nothing was made of it",
    "cloud_link.after_take": "it was taken into the journal, and whoever listens was told",
    "cloud_link.before_publish": "a message for the cloud is ready",
    "cloud_link.after_publish": "the broker has taken it",
    "step.before_perform": "the start of a step is journaled; nothing was done",
    "step.after_perform": "the step was done; its outcome is not journaled",
    "device.before_ask": "the link to the device is open; nothing was asked",
    "device.after_ask": "the device has answered; nobody was told",
    "serial.before_write": "bytes for a serial line are ready",
    "serial.after_write": "the operating system has them",
    "local_broker.before_publish": "a message for a device is ready",
    "local_broker.after_publish": "the local broker has taken it",
    "this_gateway.before_end": "its restart is journaled; the process is about to end",
    "artifacts.before_fetch": "a file is wanted that is not here",
    "artifacts.after_fetch": "it is here, and verified",
}


def _nothing(name: str, about: str = "") -> None:
    """We are at `name`, for `about`."""


def armed(environment: Mapping[str, str]) -> Reach:
    """What `reach` is in this environment. Raises ValueError for a rule that is none."""
    rules = parse_rules(environment.get(CRASH_AT, ""), NAMES)
    path = environment.get(CRASH_LOG)
    if not rules and path is None:
        return _nothing
    plan = CrashPlan(rules, environment.get(CRASH_SEED, ""))
    lock, told = threading.Lock(), set[str]()

    def tell(line: str) -> None:
        if path is not None:
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            os.write(file, f"gateway {line}\n".encode())
            os.close(file)

    def reach(name: str, about: str = "") -> None:
        with lock:
            if name not in NAMES:
                raise KeyError(name)
            if name not in told:
                told.add(name)
                tell(name)
            if plan.ends_here(name, about):
                tell(f"! {name} {about}")
                os.write(2, f"crash point {name} {about}\n".encode())
                os.kill(os.getpid(), signal.SIGKILL)

    return reach


reach: Final[Reach] = armed(os.environ)
IS_ARMED: Final = reach is not _nothing

if __name__ == "__main__":
    sys.stdout.writelines(f"{name:28} {text}\n" for name, text in NAMES.items())
