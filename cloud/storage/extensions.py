"""Appending tasks to a run that exists, and what each of them brings."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from cloud.storage.database import Session
from cloud.storage.dialect import any_of, change_many, fetch, fetch_one, listed
from cloud.storage.json_text import to_json
from cloud.storage.schema import RunRow


def of_key(session: Session, run: str, key: str) -> tuple[int, int] | None:
    """The first ordinal and the number of tasks that a key has appended, if it has."""
    row = fetch_one(
        session,
        "SELECT first, number FROM run_extensions WHERE run = :run AND key = :key",
        run=run,
        key=key,
    )
    return None if row is None else (int(row.first), int(row.number))


def remember(session: Session, run: str, key: str, first: int, number: int, now: int) -> None:
    change_many(
        session,
        "INSERT INTO run_extensions (run, key, first, number, at) "
        "VALUES (:run, :key, :first, :number, :now)",
        [{"run": run, "key": key, "first": first, "number": number, "now": now}],
    )


def gateways_of_devices(session: Session, org: str, ids: Iterable[str]) -> dict[str, str | None]:
    """The gateway of each device that exists among these."""
    rows = fetch(
        session,
        f"SELECT id, gateway FROM devices WHERE org = :org AND {any_of(session, 'id', 'ids')}",
        org=org,
        ids=listed(session, sorted(set(ids))),
    )
    return {row.id: row.gateway for row in rows}


def append(
    session: Session,
    run: RunRow,
    items: Sequence[tuple[str | None, str | None, int | None, Mapping[str, JsonValue]]],
    now: int,
    lists: Sequence[str | None] = (),
) -> None:
    """New tasks after the run's last: `(target, gateway, attempts, parameters)` each.

    `lists` names the step list of each, where the job has several.
    """
    is_device = run.resource == "device"
    rows: list[dict[str, Any]] = [
        {
            "run": run.id,
            "ordinal": run.total + n,
            "org": run.org,
            "device": target if is_device else None,
            "target": target,
            "gateway": gateway,
            "priority": run.priority,
            "attempts": attempts or run.attempts,
            # A serial run keeps the order of its ordinals.
            "due_at": 0 if run.serial else now,
            "parameters": to_json(dict(parameters)),
            "steps": lists[n] if n < len(lists) else None,
        }
        for n, (target, gateway, attempts, parameters) in enumerate(items)
    ]
    change_many(
        session,
        "INSERT INTO tasks (run, ordinal, org, device, target, gateway, status, priority, attempt, "
        "tries, attempts, revision, begun, due_at, progress, steps) VALUES (:run, :ordinal, :org, "
        ":device, :target, :gateway, 'scheduled', :priority, 0, 0, :attempts, 0, FALSE, :due_at, "
        "0, :steps)",
        rows,
    )
    change_many(
        session,
        "INSERT INTO task_parameters (run, ordinal, parameters) "
        "VALUES (:run, :ordinal, :parameters)",
        [row for row in rows if row["parameters"] != "{}"],
    )


def parameters_of(session: Session, run: str, ordinals: Iterable[int]) -> dict[int, str]:
    """What tasks of a run bring, as JSON, by ordinal."""
    rows = fetch(
        session,
        "SELECT ordinal, parameters FROM task_parameters WHERE run = :run "
        f"AND {any_of(session, 'ordinal', 'ordinals')}",
        run=run,
        ordinals=listed(session, sorted(set(ordinals))),
    )
    return {row.ordinal: row.parameters for row in rows}
