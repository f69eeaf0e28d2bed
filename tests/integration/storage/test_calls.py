"""What steps ask of the cloud, on both databases: served once, and only where it may be."""

import json

import pytest

from cloud.coordinator import acknowledgments, calls
from cloud.coordinator.calls import CallRefused
from contract.http.tasks import AcknowledgeTask
from contract.lifecycle import TaskStatus
from contract.messages import Call
from tests.integration.storage.world import VERBS, snapshot

TAG = {"id": "tag", "uses": "fleet.tag", "with": {"tags": {"done": True}}}
RUN = {"id": "next", "uses": "fleet.run_job", "with": {"job": "other"}}
LOOP = {
    "id": "loop",
    "uses": "flow.for_each",
    "with": {"items": [1, 2], "step": {"uses": "fleet.set", "with": {"attributes": {"n": 1}}}},
}
ALL = [*VERBS, "fleet.tag", "fleet.run_job", "fleet.set", "flow.for_each", "fleet.cancel_run",
       "fleet.postpone_run"]  # fmt: skip


def asking(world, *steps, gateway="north", **job):
    """A run with these steps whose only task is under way on a gateway; that task."""
    world.create_gateway(gateway)
    session = world.hello(gateway, ["pump-1"], verbs=ALL).session
    run = world.start_new(steps=list(steps), **job)
    world.dispatch()
    (offered,) = world.send()[gateway]
    world.report(gateway, snapshot(offered, "running", 1))
    return run, offered, session


def ask(world, offered, session, verb, step, body, key="k-1", gateway="north", **fields):
    values = {"task": offered.task, "attempt": offered.attempt, "step": step, "verb": verb}
    call = Call(session=session, key=key, body=body, **{**values, **fields})
    new_id = lambda: f"run-{next(world.numbers)}"  # noqa: E731
    return world.run_now(calls.serve, world.address(gateway), call, world.now, new_id)


def test_a_call_that_is_asked_again_is_answered_and_not_done_again(world):
    world.save(name="other")
    _, offered, session = asking(world, RUN)
    first = ask(world, offered, session, "fleet.run_job", "next", {"job": "other"})
    again = ask(world, offered, session, "fleet.run_job", "next", {"job": "other"})
    assert (first.fresh, again.fresh) == (True, False)
    assert first.result == again.result
    assert len(world.sql("SELECT id FROM runs WHERE job = 'other'")) == 1
    origin = world.sql("SELECT origin, depth FROM runs WHERE job = 'other'")
    assert origin == [("step", 1)]


def test_a_refused_call_leaves_nothing_and_may_succeed_later(world):
    world.save(name="other")
    busy = world.start("other")
    _, offered, session = asking(world, RUN)
    with pytest.raises(CallRefused) as refused:
        ask(world, offered, session, "fleet.run_job", "next", {"job": "other"})
    assert busy in str(refused.value)
    assert refused.value.result == {"run": busy}
    assert world.sql("SELECT key FROM calls") == []
    world.cancel(busy)
    world.settle(busy)
    assert ask(world, offered, session, "fleet.run_job", "next", {"job": "other"}).fresh


def test_a_call_is_served_only_where_its_attempt_is_open_and_its_step_stands(world):
    _, offered, session = asking(world, TAG, LOOP)
    other = world.join("south").session
    body = {"tags": {"done": True}}
    wrong = [
        {"gateway": "south", "session": other},
        {"attempt": 2},
        {"step": "another"},
        {"verb": "fleet.set", "body": {"attributes": {"a": 1}}},
        {"task": f"{offered.run}-7"},
        {"task": "nonsense"},
    ]
    for fields in wrong:
        given = {"session": session, "verb": "fleet.tag", "step": "tag", "body": body, **fields}
        with pytest.raises(CallRefused):
            ask(world, offered, **given)
    assert ask(world, offered, "another session", "fleet.tag", "tag", body) is None
    assert world.sql("SELECT tags FROM devices WHERE id = 'pump-1'") == [("{}",)]
    assert ask(world, offered, session, "fleet.set", "loop", {"attributes": {"n": 1}}).fresh
    assert ask(world, offered, session, "fleet.tag", "tag", body, key="k-2").fresh
    world.report("north", snapshot(offered, "succeeded", 2))
    with pytest.raises(CallRefused, match="not open"):
        ask(world, offered, session, "fleet.tag", "tag", body, key="k-3")


def test_what_a_step_has_set_stands_over_what_the_gateway_says(world):
    _, offered, session = asking(world, TAG)
    ask(world, offered, session, "fleet.tag", "tag", {"tags": {"done": True, "gone": None}})
    world.hello("north", ["pump-1"], verbs=ALL)
    ((tags,),) = world.sql("SELECT tags FROM devices WHERE id = 'pump-1'")
    assert json.loads(tags) == {"done": True}


@pytest.mark.parametrize("body", [{}, {"tags": 5}, {"tags": {}, "more": 1}, {"tags": {"": 1}}])
def test_a_body_that_is_none_is_refused(world, body):
    _, offered, session = asking(world, TAG)
    with pytest.raises(CallRefused):
        ask(world, offered, session, "fleet.tag", "tag", body)


# -- acknowledgments: the first committed wins


def awaiting(world, **iteration):
    explicit = {"acknowledge": {"explicit": {}}, "timeout": "60s", **iteration}
    run, offered, session = asking(
        world, {"uses": "flow.log", "with": {"text": "x"}}, iteration=explicit
    )
    return run, offered, session


def word(world, offered, success=True, attempt=None):
    given = AcknowledgeTask(success=success)
    said = world.run_now(
        acknowledgments.acknowledge, "default", offered.task, given, "somebody", world.now, attempt
    )
    return said.verdict


def time_out(world):
    return world.run_now(acknowledgments.time_out_awaiting, world.now)


@pytest.mark.row("B6")
def test_of_word_and_timeout_the_first_committed_wins(world):
    run, offered, _ = awaiting(world, timeout="30s")
    world.report("north", snapshot(offered, "awaiting", 2, begun=True, elapsed=10_000))
    world.now += 19_999
    assert time_out(world) == set()
    assert word(world, offered) == "closed"
    world.now += 60_000
    assert time_out(world) == set()
    assert world.task(offered.task).status is TaskStatus.SUCCEEDED
    assert world.settle(run).status == "succeeded"
    world.check()


@pytest.mark.row("B6")
def test_after_the_timeout_a_word_is_late_and_another_attempt_has_its_own(world):
    run, offered, _ = awaiting(world, timeout="30s")
    world.report("north", snapshot(offered, "awaiting", 2, begun=True))
    world.now += 30_001
    assert time_out(world) == {run}
    assert word(world, offered, attempt=1) == "late"
    assert world.task(offered.task).status is TaskStatus.RESCHEDULED
    world.hear("north")
    world.dispatch()
    (second,) = world.send()["north"]
    assert second.attempt == 2
    assert word(world, offered, attempt=1) == "late"
    world.report("north", snapshot(second, "awaiting", 1, begun=True))
    assert word(world, second) == "closed"
    world.check()
    levels = world.sql("SELECT level FROM run_log WHERE text LIKE '%came too late%'")
    assert levels == [("WARNING",), ("WARNING",)]


@pytest.mark.row("B6")
def test_a_word_that_comes_early_waits_for_the_steps(world):
    _, offered, _ = awaiting(world)
    assert word(world, offered, success=False) == "kept"
    assert word(world, offered) == "doubled"
    assert world.task(offered.task).status is TaskStatus.RUNNING
    world.report("north", snapshot(offered, "awaiting", 2, begun=True))
    assert world.task(offered.task).status is TaskStatus.RESCHEDULED
    assert world.task(offered.task).attempts[0].failure.code == "acknowledged_as_failed"
    world.check()


@pytest.mark.row("B6")
def test_the_gateway_is_told_of_an_end_until_it_has_said_that_it_knows(world):
    _, offered, _ = awaiting(world)
    world.report("north", snapshot(offered, "awaiting", 2, begun=True))
    word(world, offered)

    def told():
        from cloud.coordinator import dispatch

        found = world.database.read_now(dispatch.cancels_to_send, world.now)
        items = [item for one in found for item in one.items]
        world.run_now(dispatch.mark_sent, items, world.now)
        return [(item.task, item.attempt) for item in items]

    assert told() == [(offered.task, 1)]
    assert told() == []
    world.now += 10_001
    assert told() == [(offered.task, 1)]
    world.report("north", snapshot(offered, "cancelled", 3, begun=True))
    world.now += 10_001
    assert told() == []
    assert world.task(offered.task).status is TaskStatus.SUCCEEDED
