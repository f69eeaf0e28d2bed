"""What a timeout counts, and what it does not: row B2 as the cloud keeps it."""

import pytest
from pydantic import ValidationError

from cloud.coordinator import dispatch, stranded
from cloud.domain.tasks import GRACE_MS
from contract.job_document import JobDocument
from contract.lifecycle import TaskStatus
from contract.messages import OfferedTask
from tests.integration.storage.world import World, snapshot

pytestmark = pytest.mark.row("B2")
SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000
LIMIT = 2 * MINUTE


def one(world: World) -> OfferedTask:
    world.dispatch()
    (task,) = world.send()["berlin"]
    return task


def watch(world: World, passed: int, *, heard: bool = True) -> None:
    world.now += passed
    if heard:
        world.hear("berlin")
    world.run_now(dispatch.time_out, world.now)
    world.run_now(stranded.strand, world.now)


def status(world: World, task: OfferedTask) -> TaskStatus:
    return world.task(task.task).status


@pytest.mark.parametrize("timeout", [0, 999, "31d", "P2M", "soon", -1])
def test_what_is_out_of_range_is_refused_with_its_place(timeout: object):
    with pytest.raises(ValidationError) as refused:
        JobDocument.model_validate(
            {"name": "a", "steps": [{"uses": "flow.log"}], "iteration": {"timeout": timeout}}
        )
    assert {error["loc"][:2] for error in refused.value.errors()} == {("iteration", "timeout")}


def test_the_range_is_published():
    published = JobDocument.model_json_schema()["$defs"]
    for of in ("Iteration", "Step"):
        text = str(published[of]["properties"]["timeout"])
        assert "'minimum': 1000" in text
        assert "'maximum': 2592000000" in text
    assert "From 1s to 30 days" in published["Iteration"]["properties"]["timeout"]["description"]


def test_a_minute_if_nothing_is_said(world: World):
    world.join("berlin", ["pump-1"])
    run = world.start_new()
    assert one(world).timeout == MINUTE
    assert world.run(run).settings["timeout_ms"] == MINUTE


def test_it_counts_from_the_first_step_and_not_while_anything_is_waited_for(world: World):
    world.join("berlin", ["pump-1"])
    world.start_new(iteration={"timeout": "2m", "start_by": "1h"}, retry={"attempts": 2})
    task = one(world)
    assert task.timeout == LIMIT
    watch(world, LIMIT + 2 * GRACE_MS)  # offered
    assert status(world, task) is TaskStatus.OFFERED
    world.report("berlin", snapshot(task, "accepted", 1, waiting_for="bus_busy"))
    watch(world, LIMIT + 2 * GRACE_MS)  # the line is another's
    assert status(world, task) is TaskStatus.ACCEPTED
    world.report("berlin", snapshot(task, "running", 2))
    watch(world, LIMIT)
    assert status(world, task) is TaskStatus.RUNNING
    watch(world, LIMIT + 2 * GRACE_MS, heard=False)  # nobody can say what it is doing
    assert status(world, task) is TaskStatus.RUNNING
    watch(world, SECOND)  # its gateway is there, and says nothing about it
    assert status(world, task) is TaskStatus.RESCHEDULED
    assert world.task(task.task).attempts[0].status is TaskStatus.TIMED_OUT
    again = one(world)
    assert (again.attempt, again.timeout) == (2, LIMIT)
    world.report("berlin", snapshot(again, "running", 1))
    watch(world, LIMIT)
    assert status(world, task) is TaskStatus.RUNNING, "each attempt has the whole of it"


def test_what_ran_before_is_counted_by_the_gateways_own_clock(world: World):
    world.join("berlin", ["pump-1"])
    world.start_new(iteration={"timeout": "2m"})
    task = one(world)
    world.report("berlin", snapshot(task, "running", 1, elapsed=LIMIT - SECOND))
    watch(world, GRACE_MS)
    assert status(world, task) is TaskStatus.RUNNING
    watch(world, 2 * SECOND)
    assert world.task(task.task).attempts[0].status is TaskStatus.TIMED_OUT
