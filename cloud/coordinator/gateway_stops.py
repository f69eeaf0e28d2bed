"""Stopping gateways: nothing more is offered to them, what has begun ends; and starting them again.

The wish stands in the gateway's row, where dispatch reads it. The operation that asked for it
watches, and ends when all its gateways have drained. Ended before that, it takes the wish back.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cloud.coordinator import audit, operations
from cloud.coordinator.access import Caller
from cloud.coordinator.leases import COORDINATOR
from cloud.coordinator.operations import State, begin, end, locked, selected, targets_after
from cloud.domain.dispatch import stopped_place
from cloud.storage import gateway_stops, reports, runs, tasks
from cloud.storage.database import Session
from cloud.storage.gateway_stops import Drained
from cloud.storage.json_text import to_json
from contract.http.operations import StopGateways
from contract.http.runs import Run
from contract.lifecycle import RunStatus

CHUNK: Final = 100
SHOWN: Final = 20
TYPES: Final = ("stop_gateways", "start_gateways")


@dataclass(frozen=True)
class Look:
    """What a draining operation would see: who has nothing in flight, and the count of attempts."""

    idle: Sequence[str]
    left: int
    counted: Drained


def start(
    session: Session, caller: Caller, type: str, asked: StopGateways, run_id: str, now: int
) -> Run:
    """Begin one of TYPES. Raises Invalid for a selection that says nothing or cannot be read."""
    query = selected(session, caller.org, "gateway", asked.query, asked.gateways, asked.all)
    state: State = {
        "request": asked.model_dump(exclude_defaults=True, mode="json"),
        "progress": 0,
        "after": "",
        "phase": "ask",
    }
    verb = type.partition("_")[0]
    audit.note(session, caller, now, f"gateways.{verb}", f"run/{run_id}", **state["request"])
    name = f"{verb} gateways"
    return begin(session, caller, run_id, type, name, "gateway", query, state, now)


def ask_chunk(session: Session, run_id: str, before: str, now: int) -> bool:
    """Ask the next gateways to stop or to start; says whether there is more to do at once."""
    row = locked(session, run_id, before)
    if row is None:
        return False
    state: State = json.loads(row.operation)
    results: State = {"gateways": 0, **json.loads(row.results)}
    found = [gateway for gateway, _ in targets_after(session, row, state["after"], CHUNK)]
    results["gateways"] += len(found)
    starts = row.type == "start_gateways"
    if starts:
        started = gateway_stops.lift(session, row.org, found)
        results["started"] = results.get("started", 0) + len(started)
        tasks.unpark(session, [(row.org, stopped_place(gateway)) for gateway in started])
    else:
        asked = gateway_stops.ask(session, row.org, found, run_id)
        results["asked"] = results.get("asked", 0) + asked
    state["after"] = found[-1] if found else state["after"]
    is_last = len(found) < CHUNK
    if is_last and not starts:
        state["phase"] = "drain"
    row.operation, row.results = to_json(state), to_json(results)
    session.add(row)
    if is_last and starts:
        end(session, row, RunStatus.SUCCEEDED, now)
        return False
    return True


def look(session: Session, run_id: str) -> Look | None:
    """How far the gateways of a stopping operation are; None when nothing has changed."""
    row = runs.get(session, run_id)
    if row is None or row.ended_at is not None:
        return None
    left = gateway_stops.draining(session, row.org, run_id)
    busy = gateway_stops.busy(session, row.org, left) if left else set()
    found = Look(
        [gateway for gateway in left if gateway not in busy],
        len(left),
        gateway_stops.drained(session, run_id),
    )
    seen = json.loads(row.operation).get("seen")
    return None if left and not found.idle and seen == _seen(found) else found


def _seen(found: Look) -> list[int]:
    return [found.left, found.counted.finished, found.counted.handed_back]


def wait_for_dispatch(session: Session) -> None:
    """Wait until no dispatch is under way that does not know of the wish yet."""
    gateway_stops.wait_for_dispatch(session, COORDINATOR)


def drain_chunk(session: Session, run_id: str, before: str, idle: Sequence[str], now: int) -> None:
    """Note how far the gateways are; those of `idle` that are so still have stopped."""
    row = locked(session, run_id, before)
    if row is None:
        return
    state: State = json.loads(row.operation)
    results: State = json.loads(row.results)
    stopped = set(idle) - gateway_stops.busy(session, row.org, idle)
    if stopped:
        gateway_stops.set_stopped(session, row.org, stopped, run_id)
        results["stopped"] = results.get("stopped", 0) + len(stopped)
    for gateway in sorted(stopped)[:SHOWN]:
        reports.log(session, row.org, run_id, now, f"gateway {gateway} stopped")
    left = gateway_stops.draining(session, row.org, run_id)
    counted = gateway_stops.drained(session, run_id)
    results |= {
        "in_flight": counted.in_flight,
        "finished": counted.finished,
        "handed_back": counted.handed_back,
        "waiting_for": left[:SHOWN],
    }
    gone = counted.finished + counted.handed_back
    state["progress"] = gone / counted.in_flight if counted.in_flight else 0
    state["seen"] = _seen(Look((), len(left), counted))
    row.operation, row.results = to_json(state), to_json(results)
    session.add(row)
    if not left:
        del results["waiting_for"]
        row.results = to_json(results)
        end(session, row, RunStatus.SUCCEEDED, now)
        gateway_stops.forget(session, run_id)


def end_cancelled(session: Session, run_id: str, now: int) -> None:
    """End it early: gateways that have not drained yet work on."""
    row = runs.get(session, run_id, lock=True)
    if row is None or not operations.end_cancelled(session, run_id, now):
        return
    left = gateway_stops.draining(session, row.org, row.id)
    gateway_stops.lift(session, row.org, left)
    gateway_stops.forget(session, row.id)
    tasks.unpark(session, [(row.org, stopped_place(gateway)) for gateway in left])
