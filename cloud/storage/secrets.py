"""Sealed secrets by name, and which of them runs use."""

import json
from collections.abc import Iterable

from cloud.storage.database import Session
from cloud.storage.dialect import any_of, fetch, listed


def sealed(session: Session, org: str, names: Iterable[str]) -> dict[str, str]:
    rows = fetch(
        session,
        f"SELECT name, sealed FROM secrets WHERE org = :org AND {any_of(session, 'name', 'names')}",
        org=org,
        names=listed(session, sorted(set(names))),
    )
    return {row.name: row.sealed for row in rows}


def names_of_runs(session: Session, runs: Iterable[str]) -> list[tuple[str, str, list[str]]]:
    """`(run, org, names)` of those runs that use secrets."""
    rows = fetch(
        session,
        f"SELECT id, org, secrets FROM runs WHERE {any_of(session, 'id', 'runs')} "
        "AND secrets <> '[]'",
        runs=listed(session, sorted(set(runs))),
    )
    return [(row.id, row.org, json.loads(row.secrets)) for row in rows]
