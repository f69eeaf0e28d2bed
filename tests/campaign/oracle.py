"""Judges a story by what its devices lived through: each broken promise in one line.

Nothing here waits or asks: what is to be judged has ended, and all of it is in the evidence.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from contract.lifecycle import TASK_ENDS
from tests.campaign.evidence import Evidence, Row, snapshot_of

# The step may or may not have happened, and nobody can know.
UNKNOWABLE: Final = frozenset(
    {"interrupted", "reply_garbled", "step_timed_out", "crashed_gateway", "device_unreachable"}
)
CRASHES_ALLOWED: Final = 3


def judge(evidence: Evidence) -> list[str]:
    """What is wrong; empty when every promise was kept."""
    return [
        *evidence.strange,
        *_tasks_end(evidence),
        *_counters_equal_a_recount(evidence),
        *_holds_are_freed(evidence),
        *_no_vouched_result_is_lost(evidence),
        *_both_sides_agree(evidence),
        *_nothing_happens_twice(evidence),
        *_commands_tell_the_truth(evidence),
        *_firmware_tells_the_truth(evidence),
    ]


def _tasks_end(evidence: Evidence) -> Iterator[str]:
    for task in evidence.books.tasks:
        if task["status"] not in TASK_ENDS:
            yield f"{_name(task)} has not ended: {task['status']}"


def _counters_equal_a_recount(evidence: Evidence) -> Iterator[str]:
    for run, counts in evidence.books.counts.items():
        recount = Counter(task["status"] for task in evidence.books.tasks if task["run"] == run)
        if +counts != recount or min(counts.values(), default=0) < 0:
            yield f"run {run} counts {dict(+counts)}, a recount says {dict(recount)}"


def _holds_are_freed(evidence: Evidence) -> Iterator[str]:
    for row in evidence.books.held:
        yield f"{row['id']} is still held by {row['held_by']}"


def _no_vouched_result_is_lost(evidence: Evidence) -> Iterator[str]:
    """What a receipt called stored is there, in that revision or a later one."""
    kept = {
        (_name(row), row["attempt"]): max(row["revision"], row["late_revision"] or 0)
        for row in evidence.books.attempts
    }
    runs = set(evidence.books.counts)
    for item in evidence.receipts:
        name = item["task"], item["attempt"]
        if item["task"].rpartition("-")[0] in runs and kept.get(name, -1) < item["revision"]:
            yield f"{name} revision {item['revision']} was receipted, kept is {kept.get(name)}"


def _both_sides_agree(evidence: Evidence) -> Iterator[str]:
    """What a gateway's journal says of an ended attempt is what the cloud has of it."""
    attempts = {(_name(row), row["attempt"]): row for row in evidence.books.attempts}
    for gateway, rows in evidence.books.journals.items():
        for row in rows:
            ours = attempts.get((row["task"], row["attempt"]))
            name = f"{row['task']}/{row['attempt']}"
            if row["refused_code"] is not None:
                yield f"{name} of {gateway} is refused: {row['refused_code']}"
            if row["forgotten"]:
                continue
            if ours is None:
                yield f"{name} of {gateway} is {row['status']}, and unknown to the cloud"
                continue
            last = snapshot_of(ours)
            if (last.get("status"), last.get("revision")) != (row["status"], row["revision"]):
                yield (
                    f"{name}: {gateway} says {row['status']} in revision {row['revision']}, "
                    f"the cloud has {last.get('status')} in {last.get('revision')}"
                )


def _nothing_happens_twice(evidence: Evidence) -> Iterator[str]:
    """A tag names task, attempt and step."""
    for tag, times in _pulses(evidence).items():
        if times > 1:
            yield f"{tag} happened {times} times"


def _commands_tell_the_truth(evidence: Evidence) -> Iterator[str]:
    pulses = _pulses(evidence)
    explained: set[str] = set()
    for attempt in evidence.books.attempts:
        last = snapshot_of(attempt)
        number = last.get("from_attempt") or attempt["attempt"]
        for step in last.get("steps", []):
            tag = f"{_name(attempt)}/{number}/{step['id']}"
            explained.add(tag)
            if not _is_pulse(evidence, attempt["run"], step["id"]):
                continue
            yield from _judge_pulse(evidence, attempt, step, tag, pulses[tag])
        if attempt["failure_code"] in ("interrupted", "crashed_gateway"):
            yield from _judge_interruption(evidence, attempt)
    for tag in pulses.keys() - explained:
        yield f"{tag} happened, and no attempt tells of it"


def _judge_pulse(
    evidence: Evidence, attempt: Row, step: Row, tag: str, times: int
) -> Iterator[str]:
    status = step.get("status", "pending")
    code = (step.get("failure") or {}).get("code")
    if status == "succeeded" and times != 1:
        yield f"{tag} succeeded, and happened {times} times"
    elif status in ("pending", "skipped") and times:
        yield f"{tag} is {status}, and happened"
    elif status == "failed" and code not in UNKNOWABLE and times:
        yield f"{tag} failed with {code}, and happened"


def _judge_interruption(evidence: Evidence, attempt: Row) -> Iterator[str]:
    """Only where the process has died in a step can nobody know."""
    deaths = evidence.deaths[attempt["gateway"]]
    cancelled = any(fault.kind == "cancel" for fault in evidence.story.faults)
    if not deaths and not cancelled:
        yield f"{_name(attempt)} was {attempt['failure_code']}, and its gateway never died"
    if attempt["failure_code"] == "crashed_gateway" and deaths < CRASHES_ALLOWED:
        yield f"{_name(attempt)} blames {deaths} crashes of its gateway"


def _firmware_tells_the_truth(evidence: Evidence) -> Iterator[str]:
    version = evidence.story.version
    for task in evidence.books.tasks:
        if _job(evidence, task["run"])["type"] != "firmware":
            continue
        truth = evidence.truths[task["device"]]
        has_it = truth["version"] == version and truth["confirmed"]
        if task["status"] == "succeeded" and not has_it:
            shown = {name: truth[name] for name in ("version", "confirmed", "swap")}
            yield f"{_name(task)} succeeded, and {task['device']} has {shown}"
        codes = {a["failure_code"] for a in _attempts(evidence, task)} - {None}
        if task["status"] == "failed" and has_it and not codes & UNKNOWABLE:
            yield f"{_name(task)} failed with {codes}, and {task['device']} has {version}"
        boots = sum(
            each["what"] == "boot" and each["device"] == task["device"]
            for each in evidence.experiences
        )
        resets = sum(_has_reset(attempt) for attempt in _attempts(evidence, task))
        # An image that was not confirmed in time goes away with a boot of its own.
        if boots > 2 * resets:
            yield f"{task['device']} booted {boots} times for {resets} resets"


def _has_reset(attempt: Row) -> bool:
    return any(
        step["uses"] == "device.reset" and step.get("started_at")
        for step in snapshot_of(attempt).get("steps", [])
    )


def _pulses(evidence: Evidence) -> Counter[str]:
    return Counter(each["tag"] for each in evidence.experiences if each["what"] == "pulse")


def _is_pulse(evidence: Evidence, run: str, step: str) -> bool:
    found = [each for each in _job(evidence, run)["steps"] if each.get("id") == step]
    return bool(found) and found[0].get("with", {}).get("name") == "pulse"


def _job(evidence: Evidence, run: str) -> dict[str, Any]:
    """Jobs and runs stand in the same order."""
    return evidence.story.jobs[list(evidence.books.counts).index(run)]


def _attempts(evidence: Evidence, task: Row) -> list[Row]:
    key = task["run"], task["ordinal"]
    return [row for row in evidence.books.attempts if (row["run"], row["ordinal"]) == key]


def _name(row: Row) -> str:
    return f"{row['run']}-{row['ordinal']}"
