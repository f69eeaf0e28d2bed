"""Databases with large fleets and histories, written straight into the tables, for questions."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cloud.coordinator import access, instance, jobs
from cloud.coordinator.access import Caller
from cloud.storage.database import Database, Session, open_database
from cloud.storage.dialect import change, is_sqlite
from contract.job_document import JobDocument
from tests.kit.postgres import PostgresServer

NOW: Final = 1_700_000_000_000
TOKEN: Final = "the administrator's"
KINDS: Final = ("SQLite", "PostgreSQL")
JOB: Final = {"name": "job", "steps": [{"uses": "flow.log", "with": {"text": "hello"}}]}


@contextmanager
def fresh_database(kind: str, folder: Path, postgres: PostgresServer) -> Iterator[Database]:
    """An empty database of this kind, with its administrator."""
    folder.mkdir(parents=True, exist_ok=True)
    url = postgres.create_database() if kind == "PostgreSQL" else f"sqlite:///{folder / 'cloud.db'}"
    database = open_database(url)
    try:
        database.prepare_now()
        database.run_now(instance.first_start, NOW, TOKEN)
        yield database
    finally:
        database.close()
        if kind == "PostgreSQL":
            postgres.drop_database(url)


def caller_of(database: Database) -> Caller:
    return database.run_now(access.authenticate, TOKEN, NOW)


def save_job(database: Database, caller: Caller, **changes: object) -> str:
    document = JobDocument.model_validate({**JOB, **changes})
    return database.run_now(jobs.save_job, caller, document, NOW).id


def numbers(session: Session, count: int) -> str:
    """A subquery `n` with the numbers from 0 to `count`, without it."""
    if is_sqlite(session):
        return (
            "(WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c "
            f"WHERE n < {count - 1}) SELECT n FROM c) AS s"
        )
    return f"(SELECT generate_series(0, {count - 1}) AS n) AS s"


def add_fleet(session: Session, devices: int, gateways: int) -> None:
    """Gateways online with verbs for `JOB`, and their devices."""
    verbs = json.dumps(["flow.log"])
    change(
        session,
        "INSERT INTO gateways (org, id, name, token_hash, type, tags, attributes, created_at, "
        "journal, session, session_at, last_heard_at, digest_misses, foreign_devices, version, "
        "verbs, health, dropped) SELECT 'default', 'gw-' || n, '', 'hash-' || n, '', '{}', '{}', "
        f":now, 'journal-' || n, 'session-' || n, :now, :now, 0, 0, '', '{verbs}', '{{}}', '{{}}' "
        f"FROM {numbers(session, gateways)}",
        now=NOW,
    )
    name = "printf('d-%07d', n)" if is_sqlite(session) else "'d-' || lpad(n::text, 7, '0')"
    change(
        session,
        "INSERT INTO devices (org, id, gateway, type, name, driver, address, link, tags, "
        f"attributes, state, created_at) SELECT 'default', {name}, 'gw-' || (n % {gateways}), "
        f"'pump', '', '', '', 'up', '{{}}', '{{}}', '{{}}', :now FROM {numbers(session, devices)}",
        now=NOW,
    )
