"""What reports bring beside snapshots: log lines, device states, refused items, who was heard."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic import JsonValue
from uuid_utils import uuid7

from cloud.storage.database import Session
from cloud.storage.dialect import any_of, change_many, fetch, fetch_one, listed
from cloud.storage.json_text import to_json
from cloud.storage.schema import OPEN
from contract.ids import task_id
from contract.lifecycle import TaskStatus
from contract.messages import TaskMark

LOG: Final = """
INSERT INTO run_log (journal, stream, number, org, run, ordinal, device, at, level, text, data)
VALUES (:journal, :stream, :number, :org, :run, :ordinal, :device, :at, :level, :text, :data)
ON CONFLICT (journal, stream, number) DO NOTHING"""


def add_log_lines(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Lines of gateways, keyed by their source: a copy changes nothing."""
    change_many(session, LOG, rows)


def log(
    session: Session,
    org: str,
    run: str,
    now: int,
    text: str,
    *,
    level: str = "INFO",
    ordinal: int | None = None,
    data: Mapping[str, JsonValue] | None = None,
    stream: str = "cloud",
) -> None:
    """A line of our own in a run's log; of stream "client" when somebody brought it."""
    # Its source is an id that grows, so that lines of the same millisecond keep their order.
    line = {
        "journal": f"cloud-{uuid7()}",
        "stream": stream,
        "number": 0,
        "org": org,
        "run": run,
        "ordinal": ordinal,
        "device": None,
        "at": now,
        "level": level,
        "text": text,
        "data": to_json(data or {}),
    }
    change_many(session, LOG, [line])


def orgs_of_runs(session: Session, runs: Iterable[str]) -> dict[str, str]:
    rows = fetch(
        session,
        f"SELECT id, org FROM runs WHERE {any_of(session, 'id', 'runs')}",
        runs=listed(session, sorted(set(runs))),
    )
    return {row.id: row.org for row in rows}


def mark_errors(session: Session, runs: Iterable[str]) -> None:
    """These runs have an ERROR line."""
    change_many(
        session,
        "UPDATE runs SET has_errors = TRUE WHERE id = :run AND has_errors = FALSE",
        [{"run": run} for run in sorted(set(runs))],
    )


def refuse(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep what was not stored: `org, gateway, task, attempt, code, revision, detail, raw, at`."""
    change_many(
        session,
        "INSERT INTO refused (org, gateway, task, attempt, code, revision, detail, raw, at) "
        "VALUES (:org, :gateway, :task, :attempt, :code, :revision, :detail, :raw, :at) "
        "ON CONFLICT (org, gateway, task, attempt) DO UPDATE SET code = excluded.code, "
        "revision = excluded.revision, detail = excluded.detail, raw = excluded.raw, "
        "at = excluded.at",
        rows,
    )


def journals_of(session: Session, names: Iterable[tuple[str, str]]) -> dict[Any, str | None]:
    """The journal that each `(org, gateway)` now speaks for."""
    wanted = set(names)
    rows = fetch(
        session,
        f"SELECT org, id, journal FROM gateways WHERE {any_of(session, 'id', 'ids')}",
        ids=listed(session, sorted({gateway for _, gateway in wanted})),
    )
    return {(row.org, row.id): row.journal for row in rows if (row.org, row.id) in wanted}


def save_health(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """What gateways say of themselves: `org, gateway, health, dropped`, as JSON; None stays."""
    change_many(
        session,
        "UPDATE gateways SET health = coalesce(:health, health), "
        "dropped = coalesce(:dropped, dropped) "
        "WHERE org = :org AND id = :gateway",
        rows,
    )


def open_marks(session: Session, org: str, gateway: str) -> list[TaskMark]:
    """The attempts a gateway has reported and not ended: what both sides' digests are made of."""
    rows = fetch(
        session,
        f"SELECT run, ordinal, attempt, revision, status FROM tasks WHERE {OPEN} AND org = :org "
        "AND gateway = :gateway AND status <> 'offered'",
        org=org,
        gateway=gateway,
    )
    return [
        TaskMark(
            task=task_id(row.run, row.ordinal),
            attempt=row.attempt,
            revision=row.revision,
            status=TaskStatus(row.status),
        )
        for row in rows
    ]


def count_digest(session: Session, org: str, gateway: str, *, same: bool) -> int:
    """How often in a row a gateway's digest was not ours, this time counted."""
    if same:
        change_many(
            session,
            "UPDATE gateways SET digest_misses = 0 WHERE org = :org AND id = :id "
            "AND digest_misses > 0",
            [{"org": org, "id": gateway}],
        )
        return 0
    row = fetch_one(
        session,
        "UPDATE gateways SET digest_misses = digest_misses + 1 WHERE org = :org AND id = :id "
        "RETURNING digest_misses",
        org=org,
        id=gateway,
    )
    return 0 if row is None else int(row.digest_misses)
