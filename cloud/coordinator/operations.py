"""Background operations: imports, exports and deletions as runs, a chunk in each transaction.

Where an operation stands is part of its row and moves in the transaction of the chunk, so that one
that was killed goes on where it was: nothing is stored twice, nothing is left out.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import JsonValue, TypeAdapter, ValidationError

from cloud.coordinator.access import Caller
from cloud.coordinator.data_tables import columns_of, row_query
from cloud.coordinator.devices import save_edits
from cloud.coordinator.targets import standing_query
from cloud.domain import csv_records
from cloud.domain.csv_records import CsvInvalid, Record
from cloud.domain.data_rows import RowInvalid, check_name, checked, from_cell, to_cell
from cloud.errors import Invalid
from cloud.storage import data_tables, gateways, operations, reports, runs, target_documents
from cloud.storage.database import Session
from cloud.storage.dialect import is_sqlite
from cloud.storage.gateways import edited
from cloud.storage.json_text import clean, to_json
from cloud.storage.schema import RunRow
from cloud.storage.schema_targets import ContactRow
from cloud.storage.targets import DEVICES, ROWS, SHAPES, USERS, compile_query
from cloud.storage.views import runs as views
from cloud.storage.views.targets import table_row
from contract import query as queries
from contract.http.problems import ProblemItem
from contract.http.runs import Run
from contract.http.targets import EditDevice, Values
from contract.ids import is_id
from contract.job_document import DEFAULT_EXPIRY
from contract.lifecycle import RunStatus

CHUNK: Final = 1_000
BLOCK: Final = 512 * 1024
MAX_ERRORS_KEPT: Final = 100
TYPES: Final = frozenset(
    f"{verb}_{noun}" for verb in ("import", "export", "delete")
    for noun in ("rows", "devices", "users")
)  # fmt: skip
_RESOURCES: Final = {"rows": ROWS, "devices": DEVICES, "users": USERS}
_PLAIN: Final = {"users": ("id", "name", "type", "email", "phone"), "devices": ("id",)}
_VALUES: Final[TypeAdapter[Values]] = TypeAdapter(Values)
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
            raise _invalid("query", "say which, or `all`: an empty query would delete everything")
    state: State = {"request": dict(request), "progress": 0}
    if type.startswith("import"):
        state |= {"offset": 0, "line": 1, "header": None}
        state["phase"] = "check" if request.get("mode") == "all_or_nothing" else "store"
    else:
        state |= {"after": ""}
    row = RunRow(
        id=run_id,
        org=caller.org,
        job="",
        name=f"{type.replace('_', ' ')} {table}".strip(),
        type=type,
        kind="operation",
        system=True,
        resource=_RESOURCES[noun].resource,
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


def _invalid(key: str, message: str) -> Invalid:
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


def import_chunk(
    session: Session,
    run_id: str,
    before: str,
    block: bytes,
    is_last: bool,
    now: int,
) -> bool:
    """Take the whole records of a block of the file; says whether there is more."""
    row = locked(session, run_id, before)
    if row is None:
        return False
    state: State = json.loads(row.operation)
    results: State = json.loads(row.results)
    try:
        found, used, line = csv_records.records_of(block, state["line"], is_last=is_last)
        if state["header"] is None and found:
            state["header"] = _header(session, row, found.pop(0))
        if state["header"] is None and is_last:
            raise CsvInvalid(1, "the file is empty")
    except (CsvInvalid, RowInvalid) as error:
        end(session, row, RunStatus.FAILED, now, str(error))
        return False
    errors: list[tuple[int, str]] = []
    stored = _import(session, row, state, found, errors, now) if found else 0
    _note_errors(session, row, results, errors, now)
    state["offset"] += used
    state["line"] = line
    size = max(int(state["request"]["size"]), 1)
    both = state["request"].get("mode") == "all_or_nothing"
    half = state["offset"] / size / (2 if both else 1)
    state["progress"] = 0.5 + half if both and state["phase"] == "store" else half
    if state["phase"] == "store":
        results["imported"] = results.get("imported", 0) + stored
    done = is_last
    if done and state["phase"] == "check":
        if results.get("errors"):
            results.setdefault("imported", 0)
        else:
            state |= {"phase": "store", "offset": 0, "line": 1, "header": None}
            done = False
    row.operation, row.results = to_json(state), to_json(results)
    session.add(row)
    if done:
        wrong, good = results.get("errors", 0), results.get("imported", 0)
        status = RunStatus.SUCCEEDED if not wrong else RunStatus.PARTIALLY_SUCCEEDED
        end(session, row, RunStatus.FAILED if wrong and not good else status, now)
    return not done


def _note_errors(
    session: Session, row: RunRow, results: State, errors: Sequence[tuple[int, str]], now: int
) -> None:
    if not errors:
        return
    results["errors"] = results.get("errors", 0) + len(errors)
    kept = results.setdefault("first_errors", [])
    for line, reason in errors[: MAX_ERRORS_KEPT - len(kept)]:
        kept.append({"line": line, "reason": reason})
        data: dict[str, JsonValue] = {"line": line}
        text = f"line {line}: {reason}"
        reports.log(session, row.org, row.id, now, text, data=data, level="ERROR")
    row.has_errors = True


def _header(session: Session, row: RunRow, record: Record) -> list[str]:
    if record.reason:
        raise CsvInvalid(record.line, record.reason)
    names = [name.strip() for name in record.cells]
    if len(set(names)) < len(names):
        raise CsvInvalid(record.line, "a column stands twice")
    noun = row.type.partition("_")[2]
    if noun == "rows":
        known = [c.name for c in columns_of(table_row(session, row.org, row.target_table))]
        for name in names:
            if name == "id":
                continue
            if known and name not in known:
                raise RowInvalid(name, f"the table has no such column, only {', '.join(known)}")
            check_name(name)
        return names
    if "id" not in names:
        raise CsvInvalid(record.line, "a column `id` is needed")
    for name in names:
        section, dot, key = name.partition(".")
        if name not in _PLAIN[noun] and not (section in ("tags", "attributes") and dot and key):
            what = ", ".join(_PLAIN[noun])
            raise RowInvalid(name, f"columns are {what}, tags.NAME and attributes.NAME")
    return names


def _import(
    session: Session,
    row: RunRow,
    state: State,
    found: Sequence[Record],
    errors: list[tuple[int, str]],
    now: int,
) -> int:
    good: list[tuple[int, dict[str, str]]] = []
    names = state["header"]
    for record in found:
        if record.reason:
            errors.append((record.line, record.reason))
        elif len(record.cells) != len(names):
            text = f"{len(record.cells)} cells, not {len(names)} as in the first line"
            errors.append((record.line, text))
        else:
            good.append((record.line, dict(zip(names, record.cells, strict=True))))
    stores = state["phase"] == "store"
    match row.type:
        case "import_rows":
            return _import_rows(session, row, good, errors, stores, now)
        case "import_users":
            return _import_users(session, row, good, errors, stores, now)
        case _:
            return _import_devices(session, row, good, errors, stores)


def _import_rows(
    session: Session,
    row: RunRow,
    good: Sequence[tuple[int, dict[str, str]]],
    errors: list[tuple[int, str]],
    stores: bool,
    now: int,
) -> int:
    columns = columns_of(table_row(session, row.org, row.target_table))
    types = {column.name: column.type for column in columns}
    texts = []
    for line, cells in good:
        try:
            values = {
                name: from_cell(name, cell, types.get(name, "text"))
                for name, cell in cells.items()
                if name != "id"
            }
            texts.append(to_json(checked(values, columns)))
        except RowInvalid as error:
            errors.append((line, str(error)))
    if stores and texts:
        first = data_tables.take_keys(session, row.org, row.target_table, len(texts))
        if first is not None:
            data_tables.insert(session, row.org, row.target_table, first, texts, now)
    return len(texts)


def _sections(cells: Mapping[str, str]) -> dict[str, dict[str, JsonValue]]:
    """Tags and attributes of a record; an empty cell leaves a value as it is."""
    found: dict[str, dict[str, JsonValue]] = {"tags": {}, "attributes": {}}
    for name, cell in cells.items():
        section, dot, key = name.partition(".")
        if dot and cell != "":
            found[section][key] = cell
    for values in found.values():
        _VALUES.validate_python(values)
    return found


def _import_users(
    session: Session,
    row: RunRow,
    good: Sequence[tuple[int, dict[str, str]]],
    errors: list[tuple[int, str]],
    stores: bool,
    now: int,
) -> int:
    saved: dict[str, dict[str, Any]] = {}
    for line, cells in good:
        if not is_id(cells["id"]):
            errors.append((line, f"`{cells['id'][:64]}` is no id: a-z, 0-9 and hyphens"))
            continue
        try:
            sections = _sections(cells)
        except ValidationError as error:
            errors.append((line, error.errors()[0]["msg"]))
            continue
        old = saved.get(cells["id"]) or _user(session, row.org, cells["id"])
        new = {**old, "org": row.org, "id": cells["id"], "now": now}
        for name in ("name", "type", "email", "phone"):
            if cells.get(name):
                new[name] = clean(cells[name])[:256]
        for section, values in sections.items():
            new[section] = to_json(edited(json.loads(old[section]), values))
        saved[cells["id"]] = new
    if stores:
        operations.save_users(session, list(saved.values()))
    return len(saved)


def _user(session: Session, org: str, user: str) -> dict[str, Any]:
    found = session.get(ContactRow, (org, user)) or ContactRow(
        org=org, id=user, created_at=0, updated_at=0
    )
    names = ("name", "type", "email", "phone", "tags", "attributes")
    return {name: getattr(found, name) for name in names}


def _import_devices(
    session: Session,
    row: RunRow,
    good: Sequence[tuple[int, dict[str, str]]],
    errors: list[tuple[int, str]],
    stores: bool,
) -> int:
    known = target_documents.known(session, row.org, DEVICES, [cells["id"] for _, cells in good])
    done = 0
    for line, cells in good:
        if cells["id"] not in known:
            errors.append((line, f"there is no device `{cells['id'][:64]}`"))
            continue
        try:
            edit = EditDevice.model_validate(_sections(cells))
            if stores:
                device = gateways.get_device(session, row.org, cells["id"], lock=True)
                if device is not None:
                    save_edits(session, device, edit)
            done += 1
        except (ValidationError, Invalid) as error:
            errors.append((line, str(error).splitlines()[0]))
    return done


# -- exports and deletions


def export_page(
    session: Session, row_id: str
) -> tuple[list[str], list[list[str]], str, bool] | None:
    """The header, the next records as cells, the cursor after them, and whether there are more."""
    row = runs.get(session, row_id)
    if row is None or row.ended_at is not None:
        return None
    state: State = json.loads(row.operation)
    shape = SHAPES[row.resource]
    query = queries.parse(json.loads(row.query))
    condition = compile_query(query, sqlite=is_sqlite(session), shape=shape)
    header = state.get("header") or _export_header(session, row)
    found = target_documents.page(
        session,
        row.org,
        shape,
        condition,
        table=row.target_table,
        after=state["after"],
        limit=CHUNK,
    )
    records = [[to_cell(_at(document, name)) for name in header] for _, document in found]
    after = found[-1][0] if found else state["after"]
    return header, records, after, len(found) == CHUNK


def _at(document: Mapping[str, JsonValue], name: str) -> JsonValue:
    if name in document:
        return document[name]
    section, _, key = name.partition(".")
    inner = document.get(section)
    return inner.get(key) if isinstance(inner, dict) else None


def _export_header(session: Session, row: RunRow) -> list[str]:
    """The columns of a typed table; else every name in use, found by one pass over the keys."""
    if row.resource == "row":
        typed = [c.name for c in columns_of(table_row(session, row.org, row.target_table))]
        return ["id", *(typed or _keys(session, row, "data"))]
    plain = ["id", "name", "type", "email", "phone"]
    if row.resource == "device":
        plain = ["id", "name", "type", "gateway"]
    return [
        *plain,
        *(f"tags.{key}" for key in _keys(session, row, "tags")),
        *(f"attributes.{key}" for key in _keys(session, row, "attributes")),
    ]


def _keys(session: Session, row: RunRow, column: str) -> list[str]:
    return target_documents.keys_in_use(
        session, row.org, SHAPES[row.resource], column, row.target_table
    )


def export_written(
    session: Session,
    run_id: str,
    before: str,
    header: Sequence[str],
    after: str,
    number: int,
    size: int,
    now: int,
) -> bool:
    """Note how far the file is; says whether the operation still wants it."""
    row = locked(session, run_id, before)
    if row is None:
        return False
    state: State = json.loads(row.operation)
    results: State = json.loads(row.results)
    state |= {"header": list(header), "after": after, "size": size}
    results["exported"] = results.get("exported", 0) + number
    row.operation, row.results = to_json(state), to_json(results)
    session.add(row)
    return True


def export_done(session: Session, run_id: str, sha256: str, size: int, now: int) -> None:
    row = runs.get(session, run_id, lock=True)
    if row is None or row.ended_at is not None:
        return
    results: State = {"exported": 0, **json.loads(row.results)}
    results |= {"file": sha256, "bytes": size, "download": f"/api/v1/runs/{run_id}/download"}
    row.results = to_json(results)
    end(session, row, RunStatus.SUCCEEDED, now)


def export_again(session: Session, run_id: str) -> None:
    """The file so far is gone: begin anew."""
    row = runs.get(session, run_id, lock=True)
    if row is not None and row.ended_at is None:
        state: State = json.loads(row.operation)
        row.operation = to_json({**state, "after": "", "size": 0})
        row.results = "{}"
        session.add(row)


def delete_chunk(session: Session, run_id: str, before: str, now: int) -> bool:
    """Delete the next targets that fit; says whether there are more."""
    row = locked(session, run_id, before)
    if row is None:
        return False
    state: State = json.loads(row.operation)
    results: State = {"deleted": 0, **json.loads(row.results)}
    shape = SHAPES[row.resource]
    query = queries.parse(json.loads(row.query))
    condition = compile_query(query, sqlite=is_sqlite(session), shape=shape)
    found = target_documents.page(
        session,
        row.org,
        shape,
        condition,
        table=row.target_table,
        after=state["after"],
        limit=CHUNK,
    )
    ids = [key for key, _ in found]
    if shape is ROWS:
        gone = data_tables.delete(session, row.org, row.target_table, [int(key) for key in ids])
    else:
        gone = operations.delete_targets(session, row.org, shape.table, ids) if ids else 0
    results["deleted"] += gone
    if gone < len(ids):
        # Devices in use: their gateway would only bring them back.
        results["kept"] = results.get("kept", 0) + len(ids) - gone
    state["after"] = ids[-1] if ids else state["after"]
    row.operation, row.results = to_json(state), to_json(results)
    session.add(row)
    if len(found) < CHUNK:
        end(session, row, RunStatus.SUCCEEDED, now)
        return False
    return True


def csv_text(records: Sequence[Sequence[str]]) -> bytes:
    """Records as CSV, cells exactly as they are: what is exported can be imported again."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows(records)
    return out.getvalue().encode()
