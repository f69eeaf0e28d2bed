"""Holds and the emergency stop: stronger than any job. What runs completes; nothing new starts."""

from cloud.coordinator import audit
from cloud.coordinator.access import Caller
from cloud.domain.dispatch import hold_place
from cloud.errors import Invalid, NotFound
from cloud.storage import holds, tasks
from cloud.storage.database import Session
from cloud.storage.json_text import clean
from cloud.storage.schema import HoldRow
from cloud.storage.views import holds as views
from contract.http.holds import Hold, HoldKind, SetHold


def set_hold(
    session: Session, caller: Caller, kind: HoldKind, id: str, wanted: SetHold, now: int
) -> Hold:
    """Set a hold, or replace it. It takes effect with the next dispatch."""
    if kind == "org" and id != "all":
        raise Invalid("invalid", "the hold on everything is called `all`")
    row = holds.get(session, caller.org, kind, id) or HoldRow(
        org=caller.org, kind=kind, id=id, at=now
    )
    row.reason, row.by, row.at = clean(wanted.reason), caller.name, now
    lasts = wanted.lasts
    row.until = None if lasts is None else now + round(lasts.total_seconds() * 1000)
    session.add(row)
    session.flush()
    shown = views.shown(row)
    until = shown.until.isoformat() if shown.until else None
    audit.note(
        session, caller, now, "hold.set", f"hold/{kind}/{id}", reason=shown.reason, until=until
    )
    return shown


def lift_hold(session: Session, caller: Caller, kind: str, id: str, now: int) -> set[str]:
    """Lift a hold; returns the runs whose tasks may start again. Raises NotFound."""
    if not holds.delete(session, caller.org, kind, id):
        raise NotFound(f"hold on {kind} `{id[:80]}`")
    audit.note(session, caller, now, "hold.lift", f"hold/{kind}/{id}")
    return tasks.unpark(session, [(caller.org, hold_place(kind, id))])


def lift_expired(session: Session, now: int) -> set[str]:
    """Lift holds that have run out; returns the runs whose tasks may start again."""
    gone = holds.expired(session, now)
    for org, kind, id in gone:
        holds.delete(session, org, kind, id)
    return tasks.unpark(session, [(org, hold_place(kind, id)) for org, kind, id in gone])
