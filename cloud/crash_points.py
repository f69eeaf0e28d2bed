"""Named places at which tests end this process without a word; in production they do nothing.

Whether any is armed is decided once, at import. `python -m cloud.crash_points` lists them.
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
    "database.before_commit": "what a transaction did can still be lost",
    "database.after_commit": "it is committed; nobody has been told",
    "gateway_link.before_store": "messages of gateways have come; nothing was made of them",
    "gateway_link.in_item": "a task's report is about to be taken",
    "gateway_link.after_store": "they are stored, receipts and welcomes are queued",
    "gateway_link.before_publish": "a message for a gateway is ready",
    "gateway_link.after_publish": "the broker has taken it",
    "artifacts.before_keep": "a file has come whole; it has no name yet",
    "artifacts.after_keep": "it has its name; it is in no table yet",
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
            os.write(file, f"cloud {line}\n".encode())
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
