"""The lease of the process that coordinates; the loops test its term in every transaction."""

from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec, TypeVar

from cloud.storage import leases
from cloud.storage.database import Session

P = ParamSpec("P")
R = TypeVar("R")

COORDINATOR: Final = "coordinator"
LASTS_MS: Final = 15_000


class LeaseLost(Exception):
    """Somebody else coordinates now: what this transaction was to do is theirs."""


def acquire(session: Session, holder: str, lasts: int = LASTS_MS) -> int | None:
    """Take or renew the lease; the term, or None while another process holds it."""
    return leases.acquire(session, COORDINATOR, holder, lasts)


def release(session: Session, holder: str, term: int) -> None:
    leases.release(session, COORDINATOR, holder, term)


def under_lease(
    session: Session,
    holder: str,
    term: int,
    function: Callable[Concatenate[Session, P], R],
    *args: P.args,
    **kwargs: P.kwargs,
) -> R:
    """Run `function(session, ...)` if the term still runs; raises LeaseLost otherwise."""
    if not leases.is_held(session, COORDINATOR, holder, term):
        raise LeaseLost
    return function(session, *args, **kwargs)
