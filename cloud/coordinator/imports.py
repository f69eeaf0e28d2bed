"""Imports of CSV files: rows of data tables, users, and the tags and attributes of devices."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import JsonValue, TypeAdapter, ValidationError

from cloud.coordinator.data_tables import columns_of
from cloud.coordinator.devices import save_edits
from cloud.coordinator.operations import State, end, locked
from cloud.domain import csv_records
from cloud.domain.csv_records import CsvInvalid, Record
from cloud.domain.data_rows import RowInvalid, check_name, checked, from_cell
from cloud.errors import Invalid
from cloud.storage import data_tables, gateways, operations, reports, target_documents
from cloud.storage.database import Session
from cloud.storage.gateways import edited
from cloud.storage.json_text import clean, to_json
from cloud.storage.schema import RunRow
from cloud.storage.schema_targets import ContactRow
from cloud.storage.targets import DEVICES
from cloud.storage.views.targets import table_row
from contract.http.targets import EditDevice, Values
from contract.ids import is_id
from contract.lifecycle import RunStatus

BLOCK: Final = 512 * 1024
MAX_ERRORS_KEPT: Final = 100
_PLAIN: Final = {"users": ("id", "name", "type", "email", "phone"), "devices": ("id",)}
_VALUES: Final[TypeAdapter[Values]] = TypeAdapter(Values)


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
