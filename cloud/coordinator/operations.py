"""Background operations: runs without tasks, performed a chunk in each transaction.

Where an operation stands is part of its row and moves in the transaction of the chunk, so that one
that was killed goes on where it was: nothing is stored twice, nothing is left out. What each kind
does stands in `imports`, `exports` and `selections`; here they begin, end and fail.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import JsonValue

from cloud.coordinator.access import Caller
from cloud.coordinator.data_tables import row_query
from cloud.coordinator.targets import standing_query
from cloud.errors import Invalid
from cloud.storage import reports, runs, target_documents
from cloud.storage.database import Session
from cloud.storage.dialect import is_sqlite
from cloud.storage.json_text import to_json
from cloud.storage.schema import RunRow
from cloud.storage.targets import DEVICES, ROWS, SHAPES, USERS, compile_query
from cloud.storage.views import runs as views
from cloud.storage.views.targets import table_row
from contract import query as queries
from contract.http.problems import ProblemItem
from contract.http.runs import Run
from contract.job_document import DEFAULT_EXPIRY
from contract.lifecycle import RunStatus

CHUNK: Final = 1_000
TYPES: Final = frozenset(
    f"{verb}_{noun}" for verb in ("import", "export", "delete")
    for noun in ("rows", "devices", "users")
)  # fmt: skip
_RESOURCES: Final = {"rows": ROWS, "devices": DEVICES, "users": USERS}
State = dict[str, Any]


def start_operation(
    session: Session,
    caller: Caller,
    type: str,
    request: Mapping[str, JsonValue],
    run_id: str,
    now: int,
) -> Run:
    """Begin one of TYPES; `request` may have table, query, all, file, size and mode.

    Raises NotFound and Invalid.
    """
    noun = type.partition("_")[2]
    table = str(request.get("table", ""))
    query: queries.Query = queries.EVERYTHING
    if noun == "rows":
        table_row(session, caller.org, table)
    if not type.startswith("import"):
        asked = request.get("query") or {}
        query = (
            row_query(session, caller.org, table, asked)
            if noun == "rows"
            else standing_query(session, caller.org, asked, _RESOURCES[noun].resource)
        )
        if type.startswith("delete") and query == queries.EVERYTHING and not request.get("all"):
            raise invalid("query", "say which, or `all`: an empty query would delete everything")
    state: State = {"request": dict(request), "progress": 0}
    if type.startswith("import"):
        state |= {"offset": 0, "line": 1, "header": None}
        state["phase"] = "check" if request.get("mode") == "all_or_nothing" else "store"
    else:
        state |= {"after": ""}
    name, resource = f"{type.replace('_', ' ')} {table}".strip(), _RESOURCES[noun].resource
    return begin(session, caller, run_id, type, name, resource, query, state, now, table)


def begin(
    session: Session,
    caller: Caller,
    run_id: str,
    type: str,
    name: str,
    resource: str,
    query: queries.Query,
    state: State,
    now: int,
    table: str = "",
) -> Run:
    """Store a new operation, which is performed from the next round on."""
    row = RunRow(
        id=run_id,
        org=caller.org,
        job="",
        name=name,
        type=type,
        kind="operation",
        system=True,
        resource=resource,
        target_table=table,
        status=RunStatus.RUNNING,
        query=to_json(queries.to_json(query)),
        operation=to_json(state),
        timeout=0,
        start_by=0,
        creating=False,
        created_at=now,
        started_at=now,
        expires_at=now + int(DEFAULT_EXPIRY.total_seconds() * 1000),
        run_by=caller.id,
        run_by_name=caller.name,
    )
    session.add(row)
    session.flush()
    reports.log(session, caller.org, run_id, now, f"{row.name} started", data={"by": caller.name})
    return views.get_run(session, caller.org, run_id, now)


def invalid(key: str, message: str) -> Invalid:
    return Invalid("invalid", f"{key}: {message}", [ProblemItem(key=key, message=message)])


# -- one chunk


def locked(session: Session, run_id: str, before: str) -> RunRow | None:
    """The operation, locked; None when it is no longer where the chunk was read."""
    row = runs.get(session, run_id, lock=True)
    if row is None or row.ended_at is not None or row.operation != before:
        return None
    return row


def end(session: Session, row: RunRow, status: RunStatus, now: int, reason: str = "") -> None:
    row.status, row.ended_at, row.reason = status, now, reason or row.reason
    results = json.loads(row.results)
    row.has_errors = row.has_errors or status is RunStatus.FAILED or bool(results.get("errors"))
    shown = {name: value for name, value in results.items() if not isinstance(value, list)}
    level = "ERROR" if status is RunStatus.FAILED else "INFO"
    data: dict[str, JsonValue] = {**shown, "reason": reason}
    reports.log(session, row.org, row.id, now, f"run {status}", data=data, level=level)
    session.add(row)


def end_cancelled(session: Session, run_id: str, now: int) -> bool:
    row = runs.get(session, run_id, lock=True)
    if row is None or row.ended_at is not None or (row.cancel is None and now < row.expires_at):
        return False
    if row.cancel is None:
        end(session, row, RunStatus.FAILED, now, "it expired")
    else:
        end(session, row, RunStatus.CANCELLED, now)
    return True


def fail(session: Session, run_id: str, reason: str, now: int) -> None:
    row = runs.get(session, run_id, lock=True)
    if row is not None and row.ended_at is None:
        end(session, row, RunStatus.FAILED, now, reason)


def selected(
    session: Session,
    org: str,
    resource: str,
    query: JsonValue,
    ids: Sequence[str],
    everything: bool,
) -> queries.Query:
    """The query of a selection that is given by query or by ids.

    Raises Invalid when it cannot be read, names what there is not, or says nothing without `all`.
    """
    if ids:
        if query:
            raise invalid("query", f"give a query or list {resource}s, not both")
        missing = set(ids) - target_documents.known(session, org, SHAPES[resource], ids)
        if missing:
            raise invalid(f"{resource}s", f"there is no {resource} `{min(missing)}`")
    listed: list[JsonValue] = [*sorted(set(ids))]
    asked: JsonValue = {"id": {"$in": listed}} if ids else query or {}
    found = standing_query(session, org, asked, resource)
    if found == queries.EVERYTHING and not everything:
        raise invalid("query", f"say which, or `all`: an empty query means every {resource}")
    return found


def targets_after(
    session: Session, row: RunRow, after: str, limit: int
) -> list[tuple[str, dict[str, JsonValue]]]:
    """The next targets of the operation's query behind a cursor, each with its document."""
    shape = SHAPES[row.resource]
    condition = compile_query(
        queries.parse(json.loads(row.query)), sqlite=is_sqlite(session), shape=shape
    )
    return target_documents.page(
        session, row.org, shape, condition, table=row.target_table, after=after, limit=limit
    )
