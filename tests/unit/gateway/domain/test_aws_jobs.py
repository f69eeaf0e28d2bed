"""The queue of a thing's job executions: AWS's worked trace, its rules, and any order of events."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.domain import aws_job_messages as messages
from gateway.domain import aws_jobs as jobs
from gateway.domain.aws_job_messages import Rejection
from gateway.domain.aws_job_record import from_record, to_record
from gateway.domain.aws_jobs import DEVICE_MOVES, ENDS, SERVICE_MOVES, Execution, Status, Thing
from gateway.domain.facts import Instant

NOW = Instant(1_700_000_000_123, 5_000)
OWNER = ("task", 1)
MINUTE = 60_000


class Play:
    """A thing, and all that was said, as leaf of the topic and body."""

    def __init__(self):
        self.thing = Thing("pump")
        self.said = []
        self.now = NOW

    def take(self, turn):
        self.thing = turn.thing
        said = [(o.topic.removeprefix("$aws/things/pump/jobs/"), dict(o.body)) for o in turn.said]
        self.said += said
        return said

    def queue(self, job, **more):
        return self.take(jobs.queue(self.thing, job, {"do": job}, OWNER, self.now, **more))

    def ask(self, leaf, body=None):
        payload = b"" if body is None else json.dumps(body).encode()
        asked = messages.read(f"$aws/things/pump/jobs/{leaf}", payload)
        assert asked is not None
        return self.take(jobs.answer(self.thing, asked, self.now))

    def end(self, job, status, force=True):
        found = self.thing.find(job)
        return self.take(jobs.end(self.thing, found.key, status, self.now, force))

    def later(self, by_ms):
        self.now = Instant(self.now.wall + by_ms, self.now.mono + by_ms)


def listed(body):
    return {
        name: [(e["jobId"], e["versionNumber"]) for e in group]
        for name, group in body["jobs"].items()
    }


def head(body):
    found = body.get("execution")
    return found and (found["jobId"], found["status"], found["versionNumber"])


def test_the_worked_trace_of_the_developer_guide():
    play = Play()
    notify, following = play.queue("job1")
    assert (notify[0], listed(notify[1])) == ("notify", {"QUEUED": [("job1", 1)]})
    assert (following[0], head(following[1])) == ("notify-next", ("job1", "QUEUED", 1))
    assert following[1]["execution"]["jobDocument"] == {"do": "job1"}

    (notify,) = play.queue("job2")
    assert listed(notify[1]) == {"QUEUED": [("job1", 1), ("job2", 1)]}
    assert [leaf for leaf, _ in play.ask("start-next")] == ["start-next/accepted"]
    (notify,) = play.queue("job3")
    waiting = {"IN_PROGRESS": [("job1", 2)], "QUEUED": [("job2", 1), ("job3", 1)]}
    assert listed(notify[1]) == waiting

    accepted, notify, following = play.ask("job1/update", {"status": "SUCCEEDED"})
    assert (accepted[0], notify[0], following[0]) == (
        "job1/update/accepted", "notify", "notify-next"
    )  # fmt: skip
    assert listed(notify[1]) == {"QUEUED": [("job2", 1), ("job3", 1)]}
    assert head(following[1]) == ("job2", "QUEUED", 1)

    _, following = play.ask("job3/update", {"status": "IN_PROGRESS"})  # out of order
    assert (following[0], head(following[1])) == ("notify-next", ("job3", "IN_PROGRESS", 2))
    _, notify = play.ask("job2/update", {"status": "REJECTED"})
    assert listed(notify[1]) == {"IN_PROGRESS": [("job3", 2)]}
    notify, following = play.end("job3", Status.REMOVED)
    assert notify[1]["jobs"] == {}
    assert set(following[1]) == {"timestamp"}


def test_answers_hold_what_was_asked_for_and_no_more():
    play = Play()
    ((_, body),) = play.ask("start-next", {"clientToken": "t"})
    assert body == {"clientToken": "t", "timestamp": 1_700_000_000}
    play.queue("job1", work_ms=10 * MINUTE)
    ((_, body),) = play.ask("start-next", {"stepTimeoutInMinutes": 5})
    assert body["execution"] == {
        "jobId": "job1",
        "thingName": "pump",
        "jobDocument": {"do": "job1"},
        "status": "IN_PROGRESS",
        "queuedAt": 1_700_000_000,
        "startedAt": 1_700_000_000,
        "lastUpdatedAt": 1_700_000_000,
        "versionNumber": 2,
        "executionNumber": 1,
        "approximateSecondsBeforeTimedOut": 300,
    }
    ((_, again),) = play.ask("start-next", {"statusDetails": {"a": "b"}})
    assert again["execution"] == body["execution"]
    ((_, body),) = play.ask("job1/update", {"status": "IN_PROGRESS", "statusDetails": {"a": "b"}})
    assert set(body) == {"timestamp"}
    ((_, body),) = play.ask(
        "job1/update",
        {"status": "IN_PROGRESS", "includeJobExecutionState": True, "includeJobDocument": True},
    )
    assert body["executionState"] == {
        "status": "IN_PROGRESS", "statusDetails": {"a": "b"}, "versionNumber": 4
    }  # fmt: skip
    assert body["jobDocument"] == {"do": "job1"}
    ((topic, body),) = play.ask("$next/get", {"includeJobDocument": False})
    assert topic == "$next/get/accepted"
    assert "jobDocument" not in body["execution"]
    ((_, body),) = play.ask("get")
    assert [e["jobId"] for e in body["inProgressJobs"]] == ["job1"]
    assert body["queuedJobs"] == []


@pytest.mark.parametrize(
    ("leaf", "payload", "code"),
    [
        ("job1/update", b'{"status":"SUCCEEDED","expectedVersion":99}', "VersionMismatch"),
        ("job1/update", b'{"status":"SUCCEEDED","expectedVersion":"1"}', None),
        ("job1/update", b'{"status":"SUCCEEDED","expectedVersion":"x"}', "InvalidRequest"),
        ("job1/update", b'{"status":"QUEUED"}', "InvalidStateTransition"),
        ("job1/update", b'{"status":"CANCELED"}', "InvalidRequest"),
        ("job1/update", b'{"status":"DONE"}', "InvalidRequest"),
        ("job1/update", b"{}", "InvalidRequest"),
        ("job1/update", b'{"status":"FAILED","executionNumber":2}', "ResourceNotFound"),
        ("job1/update", b'{"status":"IN_PROGRESS","stepTimeoutInMinutes":0}', "InvalidRequest"),
        ("job1/update", b'{"status":"IN_PROGRESS","stepTimeoutInMinutes":-1}', None),
        ("job1/update", b'{"status":"FAILED","statusDetails":{"a":""}}', "InvalidRequest"),
        ("job1/update", b'{"status":"FAILED","statusDetails":{"a b":"c"}}', "InvalidRequest"),
        ("job1/update", b'{"status":"FAILED","statusDetails":{"a":"\\u0007"}}', "InvalidRequest"),
        ("job1/update", b'{"status":"FAILED","clientToken":7}', "InvalidRequest"),
        ("$next/update", b'{"status":"FAILED"}', "InvalidRequest"),
        ("other/update", b'{"status":"FAILED"}', "ResourceNotFound"),
        ("start-next", b'{"stepTimeoutInMinutes":-1}', "InvalidRequest"),
        ("start-next", b"[]", "InvalidJson"),
        ("get", b"\xff", "InvalidJson"),
        ("get", b'{"a":NaN}', "InvalidJson"),
        ("get", b"[" * 100_000, "InvalidJson"),
        ("get", b'{"a":"' + b"x" * messages.MAX_PAYLOAD + b'"}', "InvalidRequest"),
        ("job1/cancel", b"{}", "InvalidTopic"),
        ("job1", b"", "InvalidTopic"),
    ],
)
def test_what_is_wrong_has_a_code(leaf, payload, code):
    play = Play()
    play.queue("job1")
    before = play.thing
    asked = messages.read(f"$aws/things/pump/jobs/{leaf}", payload)
    assert asked is not None
    turn = jobs.answer(play.thing, asked, NOW)
    first = turn.said[0]
    if code is None:
        assert first.topic.endswith("/update/accepted")
        return
    assert (first.topic, first.body["code"]) == (f"{asked.topic}/rejected", code)
    assert (turn.thing, turn.changed, len(turn.said)) == (before, (), 1)
    has_state = code in ("VersionMismatch", "InvalidStateTransition")
    assert ("executionState" in first.body) is has_state


def test_too_many_details_are_refused_and_the_token_comes_back():
    many = {str(n): "x" for n in range(11)}
    body = {"status": "FAILED", "statusDetails": many, "clientToken": "mine"}
    play = Play()
    play.queue("job1")
    ((_, answer),) = play.ask("job1/update", body)
    assert (answer["code"], answer["clientToken"]) == ("InvalidRequest", "mine")
    ((_, answer),) = play.ask("job1/nonsense", {"clientToken": "mine"})
    assert (answer["code"], answer["clientToken"]) == ("InvalidTopic", "mine")


@pytest.mark.parametrize(
    "leaf", ["get/accepted", "job/update/rejected", "notify", "notify-next", "x/rejected/rejected"]
)
def test_our_own_words_are_no_requests(leaf):
    assert messages.read(f"$aws/things/pump/jobs/{leaf}", b"{}") is None


def test_time_in_progress_is_limited_twice_and_the_shorter_counts():
    play = Play()
    play.queue("job1", work_ms=10 * MINUTE)
    play.later(100 * MINUTE)  # no limit while it is queued
    assert jobs.expire(play.thing, play.now).changed == ()
    play.ask("start-next", {"stepTimeoutInMinutes": 2})
    play.later(2 * MINUTE - 1)
    play.ask("job1/update", {"status": "IN_PROGRESS", "stepTimeoutInMinutes": -1})
    play.later(8 * MINUTE)
    assert jobs.expire(play.thing, play.now).changed == ()
    play.later(1)
    said = play.take(jobs.expire(play.thing, play.now))
    assert [leaf for leaf, _ in said] == ["notify", "notify-next"]
    assert play.thing.find("job1").status is Status.TIMED_OUT


def test_only_force_ends_what_the_device_has_begun():
    play = Play()
    play.queue("job1")
    play.ask("start-next")
    assert play.end("job1", Status.CANCELED, force=False) == []
    assert len(play.end("job1", Status.CANCELED)) == 2
    ((_, late),) = play.ask("job1/update", {"status": "SUCCEEDED"})
    assert late["code"] == "InvalidStateTransition"
    assert late["executionState"] == {"status": "CANCELED", "versionNumber": 3}


def test_a_new_try_is_a_new_number_and_old_ends_are_forgotten():
    play = Play()
    for n in range(jobs.ENDED_KEPT + 10):
        play.queue(f"job{n}")
        play.ask(f"job{n}/update", {"status": "FAILED"})
    assert len(play.thing.executions) <= jobs.ENDED_KEPT + 2
    play.queue("job29")
    assert play.thing.find("job29").number == 2
    assert play.thing.find("job29").version == 1


def test_a_record_survives_a_restart_of_the_monotonic_clock():
    play = Play()
    play.queue("job1", work_ms=10 * MINUTE)
    play.ask("start-next", {"stepTimeoutInMinutes": 20})
    play.later(4 * MINUTE)
    kept = to_record(play.thing.executions[0], play.now)
    reborn = Instant(play.now.wall + 99 * MINUTE, 17)
    found = from_record(json.loads(json.dumps(kept)), reborn)
    assert found is not None
    assert found.work_by == 17 + 6 * MINUTE
    assert found.step_by == 17 + 16 * MINUTE
    assert replace(found, work_by=None, step_by=None) == replace(
        play.thing.executions[0], work_by=None, step_by=None
    )
    assert from_record({"of": "a later version"}, reborn) is None


JOB_NAMES = st.sampled_from(["job1", "job2", "job3"])
STATUSES = st.sampled_from([*Status, "NONSENSE"])


class Queue(RuleBasedStateMachine):
    """Whatever comes in whatever order: moves are legal, versions grow, notices are true."""

    @initialize()
    def begin(self):
        self.play = Play()
        self.seen: dict[tuple[str, int], Execution] = {}
        self.told_list = set()
        self.told_head = None

    @rule(job=JOB_NAMES, work=st.sampled_from([None, MINUTE]))
    def queue(self, job, work):
        self.play.queue(job, work_ms=work)

    @rule(minutes=st.sampled_from([None, 1, 3]))
    def start_next(self, minutes):
        before = self.play.thing.head
        body = {} if minutes is None else {"stepTimeoutInMinutes": minutes}
        answer = self.play.ask("start-next", body)[0][1]
        assert (before is None) is ("execution" not in answer)
        if before is not None:
            assert answer["execution"]["jobId"] == before.job
            assert answer["execution"]["status"] == "IN_PROGRESS"

    @rule(job=JOB_NAMES, status=STATUSES, version=st.sampled_from([None, 1, 2, 3]))
    def update(self, job, status, version):
        before = self.play.thing.find(job)
        body = {"status": str(status)}
        if version is not None:
            body["expectedVersion"] = version
        topic, _ = self.play.ask(f"{job}/update", body)[0]
        is_accepted = topic.endswith("accepted")
        may = (
            before is not None
            and status in DEVICE_MOVES.get(before.status, ())
            and version in (None, before.version)
        )
        assert is_accepted is may
        if not may:
            assert self.play.thing.find(job) == before

    @rule(job=JOB_NAMES, status=st.sampled_from(list(Status)), force=st.booleans())
    def end(self, job, status, force):
        if self.play.thing.find(job) is not None:
            self.play.end(job, status, force)

    @rule(by=st.sampled_from([1, MINUTE, 5 * MINUTE]))
    def time_passes(self, by):
        self.play.later(by)
        self.play.take(jobs.expire(self.play.thing, self.play.now))

    @rule()
    def the_gateway_restarts(self):
        now = self.play.now
        kept = [from_record(to_record(e, now), now) for e in self.play.thing.executions]
        assert tuple(kept) == self.play.thing.executions

    @invariant()
    def moves_are_legal_and_versions_grow(self):
        if not hasattr(self, "play"):
            return
        for execution in self.play.thing.executions:
            before = self.seen.get(execution.key)
            if before is not None and before != execution:
                assert execution.version > before.version
                reachable = DEVICE_MOVES.get(before.status, frozenset()) | SERVICE_MOVES.get(
                    before.status, frozenset()
                )
                assert execution.status in reachable
            self.seen[execution.key] = execution
            assert execution.is_ended is (execution.status in ENDS)

    @invariant()
    def what_was_said_last_is_true(self):
        if not hasattr(self, "play"):
            return
        for leaf, body in self.play.said:
            if leaf == "notify":
                groups = body["jobs"].values()
                assert all(groups)
                self.told_list = {(e["jobId"], e["executionNumber"]) for g in groups for e in g}
            elif leaf == "notify-next":
                found = body.get("execution")
                self.told_head = found and (found["jobId"], found["executionNumber"])
        self.play.said.clear()
        thing = self.play.thing
        assert self.told_list == {e.key for e in thing.pending}
        assert self.told_head == (thing.head and thing.head.key)


TestQueue = Queue.TestCase

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["status", "statusDetails", "expectedVersion", "executionNumber", "clientToken",
     "stepTimeoutInMinutes", "includeJobDocument", "includeJobExecutionState"]
)  # fmt: skip
PAYLOADS = st.one_of(
    st.binary(max_size=200),
    st.dictionaries(FIELDS, ANY_JSON).map(lambda v: json.dumps(v).encode()),
    ANY_JSON.map(lambda v: json.dumps(v).encode()),
)
WORDS = st.one_of(
    st.sampled_from(["get", "start-next", "update", "accepted", "$next", "job1", "notify", ""]),
    st.text(max_size=12).filter(lambda word: "/" not in word),
)


@given(words=st.lists(WORDS, min_size=1, max_size=4), payload=PAYLOADS)
def test_any_bytes_on_any_topic_are_answered_or_rejected(words, payload):
    asked = messages.read("/".join(["$aws/things/pump/jobs", *words]), payload)
    if asked is None:
        return
    play = Play()
    play.queue("job1")
    turn = jobs.answer(play.thing, asked, NOW)
    said = turn.said[0]
    assert said.topic in (f"{asked.topic}/accepted", f"{asked.topic}/rejected")
    assert json.loads(messages.encode(said.body))["timestamp"] == 1_700_000_000
    if isinstance(asked.request, Rejection):
        assert turn.thing == play.thing
    # Our own answer is never taken for a question.
    assert messages.read(said.topic, messages.encode(said.body)) is None
