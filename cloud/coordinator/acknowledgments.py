"""Closing tasks in explicit mode: who acknowledges first has the word, unless their time is over.

An acknowledgment may come before the cloud has heard that the steps are done: it is kept, and
counts as soon as they are. Late and doubled ones change nothing and stand in the run's log.
"""

import hmac
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Literal

from pydantic import JsonValue

from cloud.coordinator.access import Caller
from cloud.domain.tasks import close
from cloud.errors import Conflict, NotFound, NotPermitted
from cloud.storage import acknowledgments as stored
from cloud.storage import counts, reports, runs, tasks
from cloud.storage.database import Session
from cloud.storage.instance import get_instance
from cloud.storage.json_text import clean, to_json
from cloud.storage.schema import RunRow
from cloud.storage.tasks import Key, Move, StoredTask
from contract.http.tasks import AcknowledgeTask, AcknowledgmentToken
from contract.ids import OrgId, run_of, task_id
from contract.lifecycle import TASK_OPEN, TaskStatus
from contract.messages import Failure

TOKEN_START: Final = "ack_"
NEVER: Final = Failure(code="never_acknowledged", text="nobody acknowledged it in time")
Verdict = Literal["closed", "kept", "late", "doubled"]


@dataclass(frozen=True)
class Said:
    """What became of an acknowledgment: `kept` until the steps are done, `late` and `doubled`."""

    verdict: Verdict
    run: str
    detail: str = ""

    @property
    def counts(self) -> bool:
        return self.verdict in ("closed", "kept")


def acknowledge(
    session: Session,
    org: str,
    task: str,
    word: AcknowledgeTask,
    by: str,
    now: int,
    attempt: int | None = None,
) -> Said:
    """Close a task's open attempt, or the one named, by a word from outside.

    Raises NotFound, and Conflict("not_awaited") for a task that ends by its steps or has not
    started. What came too late is said in the verdict, so that its log line stays.
    """
    row, found = _find(session, org, task)
    if not _is_explicit(row):
        raise Conflict("not_awaited", f"task {task} is closed by its steps")
    number = found.facts.attempt if attempt is None else attempt
    is_open = found.facts.status in TASK_OPEN and number == found.facts.attempt
    if number > found.facts.attempt or number < 1:
        raise Conflict("not_awaited", f"task {task} has not started")
    if not is_open:
        known = stored.of_attempt(session, row.id, found.ordinal, number)
        verdict: Verdict = "late" if known is None else "doubled"
        return _ignored(session, found, verdict, word, by, now)
    values = {
        "run": row.id, "ordinal": found.ordinal, "attempt": number, "org": org,
        "success": word.success, "result": to_json(word.result),
        "accumulator": to_json(word.accumulator), "text": clean(word.text), "by": clean(by),
        "at": now,
    }  # fmt: skip
    if not stored.keep(session, values):
        return _ignored(session, found, "doubled", word, by, now)
    data: dict[str, JsonValue] = {"by": by, "success": word.success, "attempt": number}
    reports.log(session, org, row.id, now, "acknowledged", ordinal=found.ordinal, data=data)
    if found.facts.status is not TaskStatus.AWAITING:
        return Said("kept", row.id, "it counts once the steps are done")
    close_acknowledged(session, [found.key], now)
    return Said("closed", row.id)


def close_acknowledged(session: Session, keys: Iterable[Key], now: int) -> set[str]:
    """Close those of these tasks that await a word which has come already; returns their runs."""
    found = [
        (task, word)
        for task in tasks.load(session, keys).values()
        if task.facts.status is TaskStatus.AWAITING
        and (word := stored.of_attempt(session, task.run, task.ordinal, task.facts.attempt))
    ]
    facts = runs.load_facts(session, {task.run for task, _ in found})
    moves = []
    for task, word in found:
        status, failure = TaskStatus.SUCCEEDED, None
        if not word.success:
            status = TaskStatus.FAILED
            text = word.text or f"by {word.by}"
            failure = Failure(code="acknowledged_as_failed", text=text[:4096])
        moves.append(Move(task, close(task.facts, facts[task.run], status, failure, now)))
        _save_snapshot(session, task, word, status)
    tasks.save_moves(session, moves, now, counts.SWEEP_SHARD)
    return {move.task.run for move in moves}


def time_out_awaiting(session: Session, now: int, limit: int = 1_000) -> set[str]:
    """End attempts that nobody has acknowledged in time; returns their runs."""
    found = [
        task
        for task in tasks.load(session, stored.overdue(session, now, limit)).values()
        if task.facts.status is TaskStatus.AWAITING
    ]
    facts = runs.load_facts(session, {task.run for task in found})
    moves = [
        Move(task, close(task.facts, facts[task.run], TaskStatus.TIMED_OUT, NEVER, now))
        for task in found
    ]
    tasks.save_moves(session, moves, now, counts.SWEEP_SHARD)
    return {move.task.run for move in moves}


# -- tokens


def make_token(session: Session, caller: Caller, task: str, address: str) -> AcknowledgmentToken:
    """The token with which a third party may close the task's open attempt.

    Raises NotFound and Conflict("not_awaited").
    """
    row, found = _find(session, caller.org, task)
    if not _is_explicit(row) or found.facts.status not in TASK_OPEN:
        raise Conflict("not_awaited", f"task {task} has no attempt that could be acknowledged")
    return AcknowledgmentToken(
        token=token_of(key_of(session), row.org, task, found.facts.attempt),
        attempt=found.facts.attempt,
        url=f"{address}/api/v1/tasks/{task}/acknowledge",
    )


def token_of(key: str, org: str, task: str, attempt: int) -> str:
    """The token of one attempt: its number, and a signature over org, task and number."""
    return f"{TOKEN_START}{attempt}_{_signature(key, org, task, attempt)}"


def holder_of(session: Session, task: str, token: str) -> tuple[OrgId, int]:
    """Org and attempt of a token for this task. Raises NotPermitted."""
    number, _, signature = token.removeprefix(TOKEN_START).partition("_")
    row = runs.get(session, run_of(task))
    instance = get_instance(session)
    key = instance.link_key if instance is not None else ""
    if row is not None and key and number.isdecimal() and len(number) < 10:
        ours = _signature(key, row.org, task, int(number))
        if hmac.compare_digest(ours.encode(), signature.encode()):
            return OrgId(row.org), int(number)
    raise NotPermitted("not_authenticated", "the token is none of this task")


def key_of(session: Session) -> str:
    """This cloud's signing key, made with its first use."""
    instance = get_instance(session)
    assert instance is not None, "the cloud has started"
    if not instance.link_key:
        instance.link_key = secrets.token_hex(32)
        session.add(instance)
        session.flush()
    return instance.link_key


def known_key(session: Session) -> str | None:
    """The signing key, if there is one: for readers, who cannot make it."""
    instance = get_instance(session)
    return None if instance is None else instance.link_key or None


def _signature(key: str, org: str, task: str, attempt: int) -> str:
    text = f"acknowledge|{org}|{task}|{attempt}"
    return hmac.new(bytes.fromhex(key), text.encode(), sha256).hexdigest()[:40]


# -- small parts


def _find(session: Session, org: str, task: str) -> tuple[RunRow, StoredTask]:
    run, _, ordinal = task.rpartition("-")
    row = runs.get(session, run) if run and ordinal.isdecimal() and len(ordinal) < 10 else None
    if row is None or row.org != org:
        raise NotFound(f"task {task}")
    found = tasks.load(session, [(run, int(ordinal))]).get((run, int(ordinal)))
    if found is None:
        raise NotFound(f"task {task}")
    return row, found


def _is_explicit(run: RunRow) -> bool:
    return json.loads(run.body).get("acknowledge") is not None


def _ignored(
    session: Session, task: StoredTask, verdict: Verdict, word: AcknowledgeTask, by: str, now: int
) -> Said:
    why = "came too late" if verdict == "late" else "came twice"
    data: dict[str, JsonValue] = {
        "by": by, "success": word.success, "status": task.facts.status.value,
        "attempt": task.facts.attempt,
    }  # fmt: skip
    text = f"an acknowledgment {why}: nothing changes"
    reports.log(
        session, task.org, task.run, now, text, level="WARNING", ordinal=task.ordinal, data=data
    )
    name = task_id(task.run, task.ordinal)
    return Said(verdict, task.run, f"task {name} is {task.facts.status}: the word {why}")


def _save_snapshot(session: Session, task: StoredTask, word: Any, status: TaskStatus) -> None:
    """What is shown of the attempt: as reported, with the result that the word brought."""
    text = stored.snapshot_of(session, task.run, task.ordinal, task.facts.attempt)
    snapshot: dict[str, Any] = json.loads(text) if text else {
        "task": task.id, "attempt": task.facts.attempt, "revision": task.facts.revision,
    }  # fmt: skip
    snapshot |= {"status": status.value}
    result, accumulator = json.loads(word.result), json.loads(word.accumulator)
    if result is not None:
        snapshot["result"] = result
    if accumulator is not None:
        snapshot["accumulator"] = accumulator
    stored.save_snapshot(session, task.run, task.ordinal, task.facts.attempt, to_json(snapshot))
