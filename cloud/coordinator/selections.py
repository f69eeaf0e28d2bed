"""What is done to a selection of targets: deletions, and one action on many devices."""

import json
from collections.abc import Sequence
from typing import Any, Final

from pydantic import JsonValue, TypeAdapter

from cloud.coordinator import audit, runs
from cloud.coordinator.access import Caller
from cloud.coordinator.devices import save_edits
from cloud.coordinator.operations import (
    CHUNK,
    State,
    begin,
    end,
    invalid,
    locked,
    selected,
    targets_after,
)
from cloud.domain.dispatch import hold_place
from cloud.errors import Invalid
from cloud.storage import data_tables, gateways, holds, jobs, operations, reports, tasks
from cloud.storage.database import Session
from cloud.storage.json_text import clean, to_json
from cloud.storage.schema import RunRow
from cloud.storage.targets import ROWS, SHAPES
from contract.http.operations import (
    Action,
    ActOnDevices,
    DeleteThem,
    EditThem,
    HoldThem,
    LiftThem,
    RunOnThem,
)
from contract.http.runs import Run, StartRun
from contract.http.targets import EditDevice
from contract.ids import OrgId
from contract.lifecycle import RunStatus

# Edits of so many devices take less than 100 ms of one transaction.
ACTED_ON: Final = 300
MAX_ERRORS_KEPT: Final = 100
_ACTION: Final[TypeAdapter[Action]] = TypeAdapter(Action)


def delete_chunk(session: Session, run_id: str, before: str, now: int) -> bool:
    """Delete the next targets that fit; says whether there are more."""
    row = locked(session, run_id, before)
    if row is None:
        return False
    state: State = json.loads(row.operation)
    results: State = {"deleted": 0, **json.loads(row.results)}
    shape = SHAPES[row.resource]
    found = targets_after(session, row, state["after"], CHUNK)
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


# -- one action on many devices


def act_on_devices(
    session: Session, caller: Caller, asked: ActOnDevices, run_id: str, new_run: str, now: int
) -> Run:
    """Begin an action on every device selected; `new_run` is the id of a run that it may start.

    Raises NotFound for the job to start, Invalid for a selection that says nothing or cannot be
    read, and for a job that is not about devices.
    """
    query = selected(session, caller.org, "device", asked.query, asked.devices, asked.all)
    action = asked.action
    if isinstance(action, RunOnThem):
        job = jobs.get_job(session, caller.org, action.job)
        if job is None or job.resource != "device":
            what = "there is no job" if job is None else "not about devices: job"
            raise invalid("action.job", f"{what} `{action.job}`")
    request = asked.model_dump(mode="json", exclude_unset=True)
    state: State = {"request": request, "progress": 0, "after": ""}
    state |= {"run": new_run, "role": caller.role}
    about = request | {"devices": len(asked.devices)} if asked.devices else request
    audit.note(session, caller, now, f"devices.{action.do}", f"run/{run_id}", **about)
    name = f"{action.do.replace('_', ' ')} on devices"
    type = "act_on_devices"
    return begin(session, caller, run_id, type, name, "device", query, state, now)


def act_chunk(session: Session, run_id: str, before: str, now: int) -> bool:
    """Do it to the next devices; says whether there are more."""
    row = locked(session, run_id, before)
    if row is None:
        return False
    state: State = json.loads(row.operation)
    results: State = json.loads(row.results)
    action = _ACTION.validate_python(state["request"]["action"])
    if isinstance(action, RunOnThem):
        _start(session, row, action, state, results, now)
        return False
    ids = [device for device, _ in targets_after(session, row, state["after"], ACTED_ON)]
    errors: list[tuple[str, str]] = []
    for what, number in _act(session, row, action, ids, errors, now).items():
        results[what] = results.get(what, 0) + number
    for device, reason in errors:
        results["errors"] = results.get("errors", 0) + 1
        if len(kept := results.setdefault("first_errors", [])) < MAX_ERRORS_KEPT:
            kept.append({"device": device, "reason": reason})
            text = f"device {device}: {reason}"
            reports.log(session, row.org, run_id, now, text, level="ERROR")
    state["after"] = ids[-1] if ids else state["after"]
    row.operation, row.results = to_json(state), to_json(results)
    session.add(row)
    if len(ids) == ACTED_ON:
        return True
    wrong = bool(results.get("errors"))
    done = any(number for name, number in results.items() if name in _DONE)
    good = RunStatus.PARTIALLY_SUCCEEDED if done else RunStatus.FAILED
    end(session, row, good if wrong else RunStatus.SUCCEEDED, now)
    return False


_DONE: Final = ("changed", "held", "lifted", "deleted")


def _act(
    session: Session,
    row: RunRow,
    action: EditThem | HoldThem | LiftThem | DeleteThem,
    ids: Sequence[str],
    errors: list[tuple[str, str]],
    now: int,
) -> dict[str, int]:
    """What became of these devices, in numbers."""
    match action:
        case EditThem():
            return {"changed": _edit(session, row, action, ids, errors)}
        case HoldThem():
            return {"held": _hold(session, row, action, ids, now)}
        case LiftThem():
            lifted = holds.delete_many(session, row.org, "device", ids)
            tasks.unpark(session, [(row.org, hold_place("device", id)) for id in lifted])
            return {"lifted": len(lifted)}
        case DeleteThem():
            gone = operations.delete_targets(session, row.org, "devices", ids) if ids else 0
            return {"deleted": gone, "kept": len(ids) - gone}


def _edit(
    session: Session,
    row: RunRow,
    action: EditThem,
    ids: Sequence[str],
    errors: list[tuple[str, str]],
) -> int:
    edit = EditDevice(tags=action.tags or None, attributes=action.attributes or None)
    done = 0
    for device in gateways.get_devices(session, row.org, ids):
        before = device.tags, device.attributes, device.edits
        try:
            save_edits(session, device, edit)
            done += 1
        except Invalid as error:
            device.tags, device.attributes, device.edits = before
            errors.append((device.id, str(error)))
    return done


def _hold(session: Session, row: RunRow, action: HoldThem, ids: Sequence[str], now: int) -> int:
    lasts = action.lasts
    until = None if lasts is None else row.created_at + round(lasts.total_seconds() * 1000)
    about: dict[str, Any] = {
        "org": row.org,
        "kind": "device",
        "reason": clean(action.reason),
        "until": until,
        "by": row.run_by_name,
        "at": now,
    }
    holds.set_many(session, [about | {"id": device} for device in ids])
    return len(ids)


def _start(
    session: Session, row: RunRow, action: RunOnThem, state: State, results: State, now: int
) -> None:
    """Start the one run, in the transaction that ends the operation."""
    caller = Caller(OrgId(row.org), row.run_by, row.run_by_name, state["role"])
    query: JsonValue = json.loads(row.query)
    asked = StartRun(query=query, context=action.context)
    run = state["run"]
    runs.start_run(session, caller, action.job, asked, run, now)
    row.results = to_json({**results, "job": action.job, "run": run})
    session.add(row)
    end(session, row, RunStatus.SUCCEEDED, now)
