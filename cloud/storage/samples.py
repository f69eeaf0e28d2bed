"""Samples of devices: taken over once, merged into what a device is now, kept for a while."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import JsonValue
from uuid_utils import uuid7

from cloud.domain.device_state import Seen, State, merge, taken_at
from cloud.storage.database import Session
from cloud.storage.dialect import (
    any_of,
    change,
    change_many,
    fetch,
    fetch_one,
    for_update,
    is_sqlite,
    listed,
)
from cloud.storage.json_text import clean, to_json
from contract.messages import DeviceState

CLOUD: Final = "cloud"
INSERT: Final = """
INSERT INTO device_samples (org, device, at, source, number, link, state)
VALUES (:org, :device, :at, :source, :number, :link, :state)
ON CONFLICT (org, device, at, source, number) DO NOTHING"""


@dataclass(frozen=True, slots=True)
class Brought:
    """The samples of one report. `sent_at` is its gateway's clock, 0 where it did not tell."""

    org: str
    gateway: str
    journal: str
    stream: str
    sent_at: int
    states: Sequence[DeviceState]


def take(session: Session, batch: Sequence[Brought], now: int) -> list[set[str]]:
    """Store what is new of each report's samples, of devices that its gateway owns.

    Returns for each report which devices are up again.
    """
    fresh = _fresh(session, batch)
    seen: defaultdict[tuple[str, str, str], list[Seen]] = defaultdict(list)
    for brought, states in zip(batch, fresh, strict=True):
        for state in states:
            at = taken_at(state.at, brought.sent_at, now)
            found = Seen(at, state.order, brought.journal, state.values, state.link)
            seen[brought.org, brought.gateway, state.device].append(found)
    up = _merge(session, seen)
    _keep(session, batch, fresh, set(up), now)
    return [
        {d for d in {s.device for s in states} if up.get((one.org, one.gateway, d))}
        for one, states in zip(batch, fresh, strict=True)
    ]


def _fresh(session: Session, batch: Sequence[Brought]) -> list[list[DeviceState]]:
    """The samples of each report that are not stored yet; from now on they count as stored."""
    names = sorted({(one.journal, one.stream) for one in batch})
    change_many(
        session,
        "INSERT INTO sample_streams (journal, stream, number) VALUES (:journal, :stream, 0) "
        "ON CONFLICT (journal, stream) DO NOTHING",
        [{"journal": journal, "stream": stream} for journal, stream in names],
    )
    rows = fetch(
        session,
        "SELECT journal, stream, number FROM sample_streams WHERE "
        f"{any_of(session, 'journal', 'journals')} ORDER BY journal, stream{for_update(session)}",
        journals=listed(session, sorted({journal for journal, _ in names})),
    )
    stored = {(row.journal, row.stream): row.number for row in rows}
    before = dict(stored)
    found = []
    for one in batch:
        name = one.journal, one.stream
        new = [state for state in one.states if state.number > stored[name]]
        new.sort(key=lambda state: state.number)
        stored[name] = max((state.number for state in new), default=stored[name])
        found.append(new)
    change_many(
        session,
        "UPDATE sample_streams SET number = :number WHERE journal = :journal AND stream = :stream",
        [
            {"journal": journal, "stream": stream, "number": stored[journal, stream]}
            for journal, stream in names
            if stored[journal, stream] != before[journal, stream]
        ],
    )
    return found


def _merge(
    session: Session, seen: Mapping[tuple[str, str, str], Sequence[Seen]]
) -> dict[tuple[str, str, str], bool]:
    """Merge what was seen into the devices; which there are, and whether each is up again."""
    found: dict[tuple[str, str, str], bool] = {}
    changed: list[dict[str, Any]] = []
    for org in sorted({org for org, _, _ in seen}):
        rows = fetch(
            session,
            "SELECT id, gateway, state, state_at, state_marks, link FROM devices "
            f"WHERE org = :org AND {any_of(session, 'id', 'ids')} ORDER BY id{for_update(session)}",
            org=org,
            ids=listed(session, sorted({device for one, _, device in seen if one == org})),
        )
        for row in rows:
            samples = seen.get((org, row.gateway, row.id))
            if not samples:
                continue
            before = State(json.loads(row.state), row.link, json.loads(row.state_marks))
            after = merge(before, samples)
            found[org, row.gateway, row.id] = row.link == "down" and after.link == "up"
            heard = max(sample.at for sample in samples)
            changed.append(
                {
                    "org": org,
                    "id": row.id,
                    "state": to_json(after.values),
                    "marks": to_json(after.marks),
                    "at": max(heard, row.state_at or 0),
                    "link": after.link,
                    "heard": heard,
                }
            )
    change_many(
        session,
        "UPDATE devices SET state = :state, state_marks = :marks, state_at = :at, link = :link, "
        "last_heard_at = CASE WHEN last_heard_at > :heard THEN last_heard_at ELSE :heard END "
        "WHERE org = :org AND id = :id",
        changed,
    )
    return found


def _keep(
    session: Session,
    batch: Sequence[Brought],
    fresh: Sequence[Sequence[DeviceState]],
    owned: set[tuple[str, str, str]],
    now: int,
) -> None:
    rows = [
        {
            "org": one.org,
            "device": state.device,
            "at": taken_at(state.at, one.sent_at, now),
            "source": one.journal,
            # Two streams of a gateway that tells no order may number alike.
            "number": state.order or -state.number * 2 + (one.stream == "live"),
            "link": state.link,
            "state": to_json({clean(key): value for key, value in state.values.items()}),
        }
        for one, states in zip(batch, fresh, strict=True)
        for state in states
        if (one.org, one.gateway, state.device) in owned
    ]
    _insert(session, rows)


def _insert(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    change_many(session, INSERT, rows)
    by_org: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        by_org[row["org"]] += 1
    change_many(
        session,
        "INSERT INTO sample_counts (org, kept) VALUES (:org, :kept) ON CONFLICT (org) "
        "DO UPDATE SET kept = sample_counts.kept + excluded.kept",
        [{"org": org, "kept": count} for org, count in sorted(by_org.items())],
    )


def record(
    session: Session, org: str, device: str, values: Mapping[str, JsonValue], now: int
) -> bool:
    """Merge what somebody else knows into a device's state; False when there is no device."""
    row = fetch_one(
        session,
        "SELECT state, state_at, state_marks, link FROM devices "
        f"WHERE org = :org AND id = :id{for_update(session)}",
        org=org,
        id=device,
    )
    if row is None:
        return False
    before = State(json.loads(row.state), row.link, json.loads(row.state_marks))
    after = merge(before, [Seen(now, 0, CLOUD, values)])
    change(
        session,
        "UPDATE devices SET state = :state, state_marks = :marks, state_at = :now "
        "WHERE org = :org AND id = :id",
        org=org,
        id=device,
        state=to_json(after.values),
        marks=to_json(after.marks),
        now=max(now, row.state_at or 0),
    )
    # Its source is an id that grows: several of one millisecond are all kept.
    sample = {"org": org, "device": device, "at": now, "source": f"{CLOUD}-{uuid7()}", "number": 0}
    _insert(session, [{**sample, "link": "unknown", "state": to_json(dict(values))}])
    return True


# -- retention


def to_sweep(session: Session, before: int, max_rows: int) -> list[str]:
    """The orgs that have samples of before a time, or more than so many."""
    rows = fetch(
        session,
        "SELECT org FROM sample_counts c WHERE kept > :max_rows OR EXISTS "
        "(SELECT 1 FROM device_samples s WHERE s.org = c.org AND s.at < :before) ORDER BY org",
        before=before,
        max_rows=max_rows,
    )
    return [row.org for row in rows]


def sweep(session: Session, org: str, before: int, max_rows: int, limit: int) -> bool:
    """Delete at most `limit` of an org's oldest samples that are too old or too many.

    Says whether there may be more to delete.
    """
    row = fetch_one(session, "SELECT kept FROM sample_counts WHERE org = :org", org=org)
    excess = max((0 if row is None else int(row.kept)) - max_rows, 0)
    gone = _delete_oldest(session, org, None, min(excess, limit)) if excess else 0
    if gone < limit:
        gone += _delete_oldest(session, org, before, limit - gone)
    if gone:
        change(
            session,
            "UPDATE sample_counts SET kept = CASE WHEN kept > :gone THEN kept - :gone ELSE 0 END "
            "WHERE org = :org",
            org=org,
            gone=gone,
        )
    return gone >= limit


def _delete_oldest(session: Session, org: str, before: int | None, limit: int) -> int:
    row = "rowid" if is_sqlite(session) else "ctid"
    where = "org = :org" if before is None else "org = :org AND at < :before"
    parameters: dict[str, Any] = {} if before is None else {"before": before}
    chosen = f"SELECT {row} FROM device_samples WHERE {where} ORDER BY at LIMIT :limit"
    among = f"IN ({chosen})" if is_sqlite(session) else f"= ANY(ARRAY({chosen}))"
    sql = f"DELETE FROM device_samples WHERE {row} {among}"
    return change(session, sql, org=org, limit=limit, **parameters)
