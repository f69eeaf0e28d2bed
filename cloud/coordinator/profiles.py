"""Profiles deployed to gateways and withdrawn: operations that wait until each has answered.

What a gateway is to hold is state: its welcome says it, and a message that is repeated until the
gateway has answered. Ended early, an operation takes back what nobody has answered.
"""

import json
from typing import Final

from cloud.coordinator import audit, operations
from cloud.coordinator.access import Caller
from cloud.coordinator.operations import (
    State,
    begin,
    end,
    invalid,
    locked,
    selected,
    targets_after,
)
from cloud.errors import NotFound
from cloud.storage import jobs, profiles, reports, runs
from cloud.storage.database import Session
from cloud.storage.json_text import to_json
from cloud.storage.profiles import Answers
from cloud.storage.schema import RunRow
from contract.documents import DocumentInvalid, load_value
from contract.http.operations import DeployProfile, WithdrawProfile
from contract.http.runs import Run
from contract.lifecycle import RunStatus
from contract.messages import MAX_PROFILE_BYTES

CHUNK: Final = 100
SHOWN: Final = 20
MAX_ERRORS_KEPT: Final = 100
TYPES: Final = ("deploy_profile", "withdraw_profile")


def find_file(session: Session, org: str, artifact: str) -> tuple[str, int]:
    """Digest and size of an artifact that may be a profile. Raises NotFound and Invalid."""
    row = jobs.find_artifact(session, org, artifact)
    if row is None:
        raise NotFound(f"artifact `{artifact[:128]}`")
    if row.size > MAX_PROFILE_BYTES:
        raise invalid("artifact", f"a profile has at most {MAX_PROFILE_BYTES} bytes")
    return row.sha256, row.size


def check_file(name: str, data: bytes) -> None:
    """Raise Invalid unless it is a YAML object that calls itself so.

    Whether its driver understands it only a gateway can tell.
    """
    try:
        value = load_value(data.decode(), f"profile {name}")
    except UnicodeDecodeError as error:
        raise invalid("artifact", f"not UTF-8: byte {error.start}") from None
    except DocumentInvalid as error:
        raise invalid("artifact", str(error)) from None
    if not isinstance(value, dict):
        raise invalid("artifact", "a profile is an object, of keys and values")
    if value.get("name", name) != name:
        raise invalid("name", f"the file calls itself `{str(value['name'])[:64]}`")


def start(
    session: Session,
    caller: Caller,
    asked: DeployProfile | WithdrawProfile,
    file: tuple[str, int] | None,
    run_id: str,
    now: int,
) -> Run:
    """Begin one of TYPES; `file` is digest and size of what is deployed.

    Raises Invalid for a selection that says nothing or cannot be read.
    """
    query = selected(session, caller.org, "gateway", asked.query, asked.gateways, asked.all)
    request = asked.model_dump(exclude_defaults=True, mode="json")
    if file is not None:
        request |= {"sha256": file[0], "size": file[1]}
    state: State = {"request": request, "progress": 0, "after": "", "phase": "ask"}
    verb = "withdraw" if file is None else "deploy"
    about = request | {"gateways": len(asked.gateways)} if asked.gateways else request
    audit.note(session, caller, now, f"profiles.{verb}", f"run/{run_id}", **about)
    name = f"{verb} profile {asked.name}"
    return begin(session, caller, run_id, f"{verb}_profile", name, "gateway", query, state, now)


def ask_chunk(session: Session, run_id: str, before: str, now: int) -> bool:
    """Ask the next gateways; says whether there is more to do at once."""
    row = locked(session, run_id, before)
    if row is None:
        return False
    state: State = json.loads(row.operation)
    results: State = {"gateways": 0, **json.loads(row.results)}
    request = state["request"]
    file = (request["sha256"], request["size"]) if "sha256" in request else None
    found = [gateway for gateway, _ in targets_after(session, row, state["after"], CHUNK)]
    asked = profiles.ask(session, row.org, found, request["name"], file, run_id, now)
    results["gateways"] += len(found)
    _count(session, row, results, Answers((), asked.same, asked.refused), now)
    state["after"] = found[-1] if found else state["after"]
    if len(found) < CHUNK:
        state["phase"] = "wait"
    row.operation, row.results = to_json(state), to_json(results)
    session.add(row)
    return True


def look(session: Session, run_id: str) -> Answers | None:
    """What gateways have answered; None when nothing has changed."""
    row = runs.get(session, run_id)
    if row is None or row.ended_at is not None:
        return None
    found = profiles.answers(session, run_id)
    is_news = found.agreed or found.refused or not found.waiting
    seen = json.loads(row.operation).get("waiting")
    return found if is_news or seen != len(found.waiting) else None


def wait_chunk(session: Session, run_id: str, before: str, now: int) -> None:
    """Note what was answered, and end when nobody is left."""
    row = locked(session, run_id, before)
    if row is None:
        return
    state: State = json.loads(row.operation)
    results: State = json.loads(row.results)
    found = profiles.answers(session, run_id)
    profiles.forget(session, run_id, [*found.agreed, *found.refused])
    _count(session, row, results, found, now)
    done = results["gateways"] - len(found.waiting)
    state |= {"waiting": len(found.waiting)}
    state["progress"] = done / results["gateways"] if results["gateways"] else 0
    results["waiting_for"] = list(found.waiting[:SHOWN])
    if found.waiting:
        row.operation, row.results = to_json(state), to_json(results)
        session.add(row)
        return
    del results["waiting_for"]
    agreed, errors = results.get(_word(row), 0), results.get("errors", 0)
    overtaken = results["gateways"] - agreed - errors
    if overtaken:
        # Somebody has asked for another profile of the name there before these answered.
        results["overtaken"] = overtaken
    row.operation, row.results = to_json(state), to_json(results)
    session.add(row)
    status = RunStatus.SUCCEEDED
    if errors:
        status = RunStatus.PARTIALLY_SUCCEEDED if agreed else RunStatus.FAILED
    end(session, row, status, now)


def end_cancelled(session: Session, run_id: str, now: int) -> None:
    """End it early: who has not answered is to hold what it held before."""
    row = runs.get(session, run_id, lock=True)
    if row is None or row.ended_at is not None:
        return
    found = profiles.answers(session, run_id)
    results: State = {"gateways": 0, **json.loads(row.results)}
    _count(session, row, results, found, now)
    back = profiles.take_back(session, row.org, run_id)
    results.pop("waiting_for", None)
    if back:
        results["taken_back"] = len(back)
    row.results = to_json(results)
    session.add(row)
    session.flush()
    operations.end_cancelled(session, run_id, now)


def _word(row: RunRow) -> str:
    return "deployed" if row.type == "deploy_profile" else "withdrawn"


def _count(session: Session, row: RunRow, results: State, found: Answers, now: int) -> None:
    results[_word(row)] = results.get(_word(row), 0) + len(found.agreed)
    for gateway, reason in sorted(found.refused.items()):
        results["errors"] = results.get("errors", 0) + 1
        if len(kept := results.setdefault("first_errors", [])) < MAX_ERRORS_KEPT:
            kept.append({"gateway": gateway, "reason": reason})
            text = f"gateway {gateway}: {reason}"
            reports.log(session, row.org, row.id, now, text, level="ERROR")
