"""Exports of rows, users and devices: a page of records at a time into a CSV file."""

import csv
import io
import json
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from cloud.coordinator.data_tables import columns_of
from cloud.coordinator.operations import CHUNK, State, end, locked, targets_after
from cloud.domain.data_rows import to_cell
from cloud.storage import runs, target_documents
from cloud.storage.database import Session
from cloud.storage.json_text import to_json
from cloud.storage.schema import RunRow
from cloud.storage.targets import SHAPES
from cloud.storage.views.targets import table_row
from contract.lifecycle import RunStatus


def export_page(
    session: Session, row_id: str
) -> tuple[list[str], list[list[str]], str, bool] | None:
    """The header, the next records as cells, the cursor after them, and whether there are more."""
    row = runs.get(session, row_id)
    if row is None or row.ended_at is not None:
        return None
    state: State = json.loads(row.operation)
    header = state.get("header") or _export_header(session, row)
    found = targets_after(session, row, state["after"], CHUNK)
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


def csv_text(records: Sequence[Sequence[str]]) -> bytes:
    """Records as CSV, cells exactly as they are: what is exported can be imported again."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows(records)
    return out.getvalue().encode()
