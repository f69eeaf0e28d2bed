"""What is done to a selection of targets: deletions of rows, users and devices."""

import json

from cloud.coordinator.operations import CHUNK, State, end, locked, next_targets
from cloud.storage import data_tables, operations
from cloud.storage.database import Session
from cloud.storage.json_text import to_json
from cloud.storage.targets import ROWS, SHAPES
from contract.lifecycle import RunStatus


def delete_chunk(session: Session, run_id: str, before: str, now: int) -> bool:
    """Delete the next targets that fit; says whether there are more."""
    row = locked(session, run_id, before)
    if row is None:
        return False
    state: State = json.loads(row.operation)
    results: State = {"deleted": 0, **json.loads(row.results)}
    shape = SHAPES[row.resource]
    found = next_targets(session, row, state["after"])
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
