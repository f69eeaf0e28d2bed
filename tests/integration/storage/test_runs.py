"""A run from its start to its end, on both databases."""

import pytest

from cloud.coordinator import dispatch
from cloud.errors import Conflict, Invalid
from contract.lifecycle import RunStatus, TaskStatus
from tests.integration.storage.world import START, World, snapshot


def test_a_run_goes_to_every_device_and_ends_when_all_have_answered(world: World):
    world.join("berlin", ["pump-1", "pump-2", "pump-3"])
    run = world.start_new(iteration={"concurrency": 2})
    assert world.run(run).counts.pending == 3
    assert world.dispatch().offered == 2
    offered = world.send()["berlin"]
    assert [task.device for task in offered] == ["pump-1", "pump-2"]
    assert world.dispatch().offered == 0
    for task in offered:
        outcome = world.report("berlin", snapshot(task, "succeeded", 3, result={"said": "hello"}))
        assert [item.outcome for item in outcome.items] == ["stored"]
    assert world.dispatch().offered == 1
    (last,) = world.send()["berlin"]
    world.report("berlin", snapshot(last, "running", 1, progress=50))
    assert world.run(run).progress == pytest.approx(83.33)
    world.report("berlin", snapshot(last, "failed", 2, failure={"code": "device_refused"}))
    world.check()
    assert world.settle(run).status is RunStatus.RUNNING  # a retry is due
    world.now += 1
    for _ in range(2):
        world.dispatch()
        (last,) = world.send()["berlin"]
        world.report("berlin", snapshot(last, "failed", 1, failure={"code": "device_refused"}))
        world.check()
    ended = world.settle(run)
    assert ended.status is RunStatus.PARTIALLY_SUCCEEDED
    assert (ended.counts.succeeded, ended.counts.failed, ended.has_errors) == (2, 1, True)
    assert ended.progress == 100
    shown = world.task(last.task)
    assert (shown.tries, len(shown.attempts), shown.status) == (3, 3, TaskStatus.FAILED)
    assert shown.failure is not None
    assert shown.failure.help


def test_a_run_without_targets_succeeds(world: World):
    run = world.start_new(targets={"query": {"type": "none"}})
    assert world.settle(run).status is RunStatus.SUCCEEDED


def test_one_run_of_a_job_is_in_flight(world: World):
    job = world.save()
    run = world.start(job)
    with pytest.raises(Conflict) as refused:
        world.start(job)
    assert (refused.value.code, refused.value.run) == ("run_in_flight", run)


def test_the_same_run_id_again_is_the_same_run(world: World):
    job = world.save()
    first = world.start(job)
    world.numbers = iter([int(first.removeprefix("run-"))])  # type: ignore[assignment]
    assert world.start(job) == first


@pytest.mark.parametrize(
    ("artifact", "code"),
    [
        ("missing", "unknown_artifact"),
        ("note.txt", "image_invalid"),
        ("{{ ctx.nothing }}", "document_invalid"),
    ],
)
def test_a_run_whose_artifact_is_wrong_is_not_created(world: World, artifact: str, code: str):
    world.artifact("note.txt", image=False)
    job = world.save(steps=[{"uses": "firmware.upload", "with": {"artifact": artifact}}])
    with pytest.raises(Invalid) as refused:
        world.start(job)
    assert refused.value.code == code
    assert refused.value.items[0].key == "steps[0].with.artifact"
    assert world.sql("SELECT count(*) FROM runs") == [(0,)]


def test_an_artifact_is_rendered_over_the_context(world: World):
    world.artifact("pump-2.0.bin")
    world.join("berlin", ["pump-1"])
    job = world.save(
        context={"image": "pump-1.0.bin"},
        steps=[{"uses": "firmware.upload", "with": {"artifact": "{{ ctx.image }}"}}],
    )
    world.start(job, context={"image": "pump-2.0.bin"})
    world.dispatch()
    assert world.send()["berlin"][0].device == "pump-1"


def test_a_template_that_the_start_cannot_render_is_refused_when_saved(world: World):
    steps = [{"uses": "firmware.upload", "with": {"artifact": "{{ device.attributes.image }}"}}]
    with pytest.raises(Invalid, match="not valid") as refused:
        world.save(steps=steps)
    assert "device" in refused.value.items[0].message


def test_cancelling_recalls_what_has_not_begun_and_lets_the_rest_complete(world: World):
    world.join("berlin", [f"pump-{n}" for n in range(6)])
    run = world.start_new(iteration={"concurrency": 3})
    world.dispatch()
    offered = world.send()["berlin"]
    world.report("berlin", snapshot(offered[0], "running", 1))
    world.report("berlin", snapshot(offered[1], "accepted", 1))
    assert world.cancel(run).status is RunStatus.CANCELLING
    assert world.run(run).counts.cancelled == 3
    world.check()
    (cancelling,) = world.database.read_now(dispatch.cancels_to_send, world.now)
    assert [(item.task, item.mode) for item in cancelling.items] == [
        (offered[1].task, "recall"),
        (offered[2].task, "recall"),
    ]
    for task in offered[1:]:
        world.report("berlin", snapshot(task, "scheduled", 2))
    assert world.settle(run).status is RunStatus.CANCELLING
    world.report("berlin", snapshot(offered[0], "succeeded", 2))
    world.check()
    ended = world.settle(run)
    assert ended.status is RunStatus.CANCELLED
    assert (ended.counts.succeeded, ended.counts.cancelled) == (1, 5)


def test_a_forced_cancel_ends_unconfirmed_and_keeps_the_device(world: World):
    world.join("berlin", ["pump-1"])
    run = world.start_new()
    world.dispatch()
    (task,) = world.send()["berlin"]
    world.report("berlin", snapshot(task, "running", 1))
    world.cancel(run, force=True)
    world.now += 301_000
    assert world.settle(run).status is RunStatus.CANCELLED
    assert world.task(task.task).failure.code == "unconfirmed"
    assert world.sql("SELECT held_by FROM devices") == [(task.task,)]
    world.report("berlin", snapshot(task, "succeeded", 2))
    assert world.sql("SELECT held_by FROM devices") == [(None,)]
    assert world.task(task.task).attempts[0].late_outcome is not None
    world.check()


def test_a_run_expires_with_its_open_tasks(world: World):
    world.join("berlin", ["pump-1", "pump-2"])
    run = world.start_new(iteration={"concurrency": 1})
    world.dispatch()
    (task,) = world.send()["berlin"]
    world.report("berlin", snapshot(task, "succeeded", 1))
    world.now = START + 31 * 86_400_000
    ended = world.settle(run)
    assert ended.status is RunStatus.PARTIALLY_SUCCEEDED
    world.check()
