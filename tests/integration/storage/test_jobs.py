"""Jobs have names in any language and ids that stay; they are listed, edited, copied, deleted."""

import pytest
from pydantic import ValidationError

from cloud.coordinator import deletions, jobs, runs
from cloud.errors import Conflict, NotFound
from cloud.storage.views import jobs as views
from contract.http.jobs import DuplicateJob
from contract.ids import DEFAULT_ORG, is_id
from contract.job_document import JobDocument
from contract.lifecycle import RunStatus
from tests.integration.storage.test_triggers import fire, run_of, runs_of
from tests.integration.storage.world import JOB, World

NAMES = ["Pumpen in Köln", "泵 固件更新", "Обновить насосы", "🚀🚀", "تحديث المضخات", "ポンプ"]


def duplicate(world: World, job: str, **asked):
    given = DuplicateJob.model_validate(asked)
    return world.run_now(jobs.duplicate_job, world.caller, job, given, world.now)


def get(world: World, job: str):
    return world.database.read_now(views.get_job, DEFAULT_ORG, job, world.now)


@pytest.mark.row("A1")
def test_a_name_is_free_text_in_any_language_and_gives_a_sane_id(world: World):
    ids = [world.save(name=name) for name in NAMES]
    assert len(set(ids)) == len(NAMES)
    assert all(is_id(job) for job in ids)
    assert [get(world, job).name for job in ids] == NAMES
    page = world.database.read_now(views.list_jobs, DEFAULT_ORG, world.now)
    assert {job.name for job in page.items} == set(NAMES)
    given = world.save(name=NAMES[1], id="pumps", description="第一行\nsecond", type="固件")
    assert (get(world, given).id, get(world, given).type) == ("pumps", "固件")
    for wrong in ({"name": ""}, {"name": "  "}, {"name": "a\0b"}, {"name": "a\nb"},
                  {"description": "\x1b[31m"}, {"name": "half \ud800"}):  # fmt: skip
        with pytest.raises(ValidationError):
            JobDocument.model_validate({**JOB, **wrong})
    with pytest.raises(ValidationError):
        JobDocument.model_validate({k: v for k, v in JOB.items() if k != "name"})


@pytest.mark.row("A1")
def test_renaming_a_job_breaks_nothing_that_names_it(world: World):
    world.join("berlin", ["pump-1"])
    cleanup = world.save(name="Clean up", targets={"query": {"type": "none"}})
    first = world.save(name="Pumps", on_complete=[{"run": cleanup}])
    before = world.start(first)
    world.play(before)
    fire(world)
    world.run_now(runs.create_tasks, run_of(world, cleanup), world.now)
    world.play(run_of(world, cleanup))
    renamed = world.save(name="清理", id=cleanup, targets={"query": {"type": "none"}})
    world.save(name="Насосы", id=first, on_complete=[{"run": cleanup}])
    assert (renamed, get(world, first).name) == (cleanup, "Насосы")
    run = world.start(first)
    assert world.play(run).status is RunStatus.SUCCEEDED
    assert (world.run(run).job, world.run(run).name) == (first, "Насосы")
    assert (world.run(before).job, world.run(before).name) == (first, "Pumps")  # as it was frozen
    refs = world.database.read_now(deletions.job_references, DEFAULT_ORG, cleanup)
    assert [found.job for found in refs.triggered_by] == [first]
    fire(world)
    assert runs_of(world, cleanup) == 2
    assert world.run(run_of(world, cleanup)).name == "清理"


@pytest.mark.row("A1")
def test_the_list_says_what_a_job_is_about_and_when_it_last_ran(world: World):
    world.join("berlin", ["pump-1"])
    job = world.save(name="a")
    world.save(name="b", targets={"resource": "gateway", "query": {}})
    world.now += 60_000
    world.start(job)
    a, b = world.database.read_now(views.list_jobs, DEFAULT_ORG, world.now).items
    assert (a.resource, b.resource) == ("device", "gateway")
    assert round(a.last_run_at.timestamp() * 1000) == world.now
    assert b.last_run_at is None


@pytest.mark.row("A1")
def test_a_copy_has_its_own_name_and_id_and_no_runs(world: World):
    world.join("berlin", ["pump-1"])
    job = world.save(name="Pumpen", description="d", type="firmware", context={"n": 1})
    run = world.start(job)
    copy = duplicate(world, job)
    assert (copy.id, copy.name, copy.revision, copy.run) == (
        "pumpen-copy",
        "Pumpen (copy)",
        1,
        None,
    )
    old = get(world, job).document
    same = {key: value for key, value in copy.document.items() if key not in ("id", "name")}
    assert same == {key: value for key, value in old.items() if key not in ("id", "name")}
    again = duplicate(world, job)
    assert (again.id, again.name) == ("pumpen-copy-2", "Pumpen (copy)")
    named = duplicate(world, job, name="泵", id="bomba")
    assert (named.id, named.name) == ("bomba", "泵")
    with pytest.raises(Conflict) as refused:
        duplicate(world, job, id="bomba")
    assert refused.value.code == "exists"
    with pytest.raises(NotFound):
        duplicate(world, "nobody")
    other = world.start(copy.id)  # beside the run of the first
    assert world.run(run).ended_at is world.run(other).ended_at is None
    long = world.save(name="泵" * 256, id="long")
    assert len(duplicate(world, long).name) <= 256
