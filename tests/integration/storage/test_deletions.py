"""A job is deleted: what is in flight completes, and nothing of its history is shown."""

import pytest

from cloud.coordinator import deletions, jobs, links, runs
from cloud.errors import Conflict, Gone, NotFound, NotPermitted
from cloud.storage.views import jobs as job_views
from cloud.storage.views import logs, reports
from cloud.storage.views import runs as run_views
from contract.http.history import DeletedJob, JobReferences
from contract.http.runs import CancelRun, StartRun
from contract.ids import DEFAULT_ORG
from contract.job_document import JobDocument
from tests.integration.storage.test_triggers import fire, runs_of
from tests.integration.storage.world import JOB, World, snapshot

pytestmark = pytest.mark.row("C5")
NOBODY = {"targets": {"query": {"type": "none"}}}


def delete(world: World, job: str, **options: bool) -> DeletedJob:
    return world.run_now(deletions.delete_job, world.caller, job, world.now, **options)


def references(world: World, job: str) -> JobReferences:
    return world.database.read_now(deletions.job_references, DEFAULT_ORG, job)


def test_tasks_in_flight_complete_and_no_others_start_or_are_retried(world: World):
    world.join("berlin", [f"pump-{n}" for n in range(4)])
    job = world.save(iteration={"concurrency": 2}, on_complete=[{"run": "mail"}])
    world.save(name="mail", **NOBODY)
    run = world.start(job)
    world.dispatch()
    offered = world.send()["berlin"]
    for task in offered:
        world.report("berlin", snapshot(task, "running", 1))
    assert delete(world, job).run == run
    world.sweep(run)
    outcome = world.report("berlin", snapshot(offered[0], "succeeded", 2))
    assert [item.outcome for item in outcome.items] == ["stored"]
    world.report("berlin", snapshot(offered[1], "failed", 2))
    world.now += 100_000
    assert world.dispatch().offered == 0
    while world.run_now(runs.settle_run, run, world.now):
        pass
    ((status, reason),) = world.sql("SELECT status, reason FROM runs WHERE id = :r", r=run)
    assert (status, reason) == ("cancelled", "the job was deleted")
    counted = world.sql("SELECT status, count(*) FROM tasks GROUP BY status ORDER BY status")
    assert counted == [("cancelled", 2), ("failed", 1), ("succeeded", 1)]
    fire(world)
    assert runs_of(world, "mail") == 0
    world.check()


def test_runs_logs_and_reports_are_gone_and_a_namesake_begins_anew(world: World):
    job = world.save(**NOBODY)
    run = world.start(job)
    world.settle(run)
    link = world.run_now(links.make_report_link, world.caller, run, world.now, "")
    signature = link.csv.rpartition("=")[2]
    until = int(link.expires_at.timestamp() * 1000)
    now = world.now

    def open_link() -> str:
        return world.database.read_now(links.org_of_link, run, "csv", until, signature, now)

    assert open_link() == DEFAULT_ORG
    delete(world, job)
    for read in (
        lambda: world.run(run),
        lambda: world.task(f"{run}-0"),
        lambda: world.database.read_now(logs.run_log, DEFAULT_ORG, run),
        lambda: world.database.read_now(reports.rows, DEFAULT_ORG, run),
        open_link,
        lambda: world.run_now(runs.cancel_run, world.caller, run, CancelRun(), world.now),
    ):
        with pytest.raises((Gone, NotFound, Conflict)):
            read()
    shown = world.database.read_now(run_views.list_runs, DEFAULT_ORG, world.now)
    assert shown.items == []
    world.now += 1
    again = world.start(world.save(**NOBODY))
    shown = world.database.read_now(run_views.list_runs, DEFAULT_ORG, world.now)
    assert [found.id for found in shown.items] == [again]
    with pytest.raises(Gone):
        world.run(run)
    assert world.database.read_now(job_views.get_job, DEFAULT_ORG, job, world.now).run is not None


@pytest.mark.row("C8")
def test_triggers_stand_apart_from_jobs_that_merely_run_it(world: World):
    world.save(name="mail", **NOBODY)
    world.save(name="pumps", on_complete=[{"run": "mail"}], on_timeout=[{"run": "mail"}], **NOBODY)
    world.save(
        name="nightly",
        steps=[{"uses": "fleet.run_job", "with": {"job": "pumps"}}],
        replaces=["pumps"],
        **NOBODY,
    )
    found = references(world, "pumps")
    assert [(r.job, r.kind) for r in found.triggers] == [
        ("mail", "on_complete"),
        ("mail", "on_timeout"),
    ]
    assert [(r.job, r.kind) for r in found.used_by] == [
        ("nightly", "replaces"),
        ("nightly", "fleet.run_job"),
    ]
    assert found.triggered_by == []
    assert {r.job for r in references(world, "mail").triggered_by} == {"pumps"}


def test_jobs_that_only_its_triggers_start_go_with_it_if_asked(world: World):
    for name in ("own", "shared", "runs-it"):
        world.save(name=name, **NOBODY)
    world.save(name="other", on_complete=[{"run": "shared"}], **NOBODY)
    world.save(
        name="runs-it", steps=[{"uses": "fleet.run_job", "with": {"job": "pumps"}}], **NOBODY
    )
    world.save(name="pumps", on_complete=[{"run": "own"}], on_timeout=[{"run": "shared"}], **NOBODY)
    deleted = delete(world, "pumps", with_triggered=True)
    assert deleted.also_deleted == ["own"]
    assert deleted.warnings == ["`runs-it` names `pumps` at steps[0]: that will fail from now on"]
    left = world.sql("SELECT id FROM jobs ORDER BY id")
    assert left == [("other",), ("runs-it",), ("shared",)]


def test_who_starts_a_deleted_job_fails_clearly(world: World):
    world.save(name="mail", **NOBODY)
    job = world.save(on_complete=[{"run": "mail"}], **NOBODY)
    assert delete(world, "mail").warnings
    run = world.start(job)
    world.settle(run)
    fire(world)
    page = world.database.read_now(logs.run_log, DEFAULT_ORG, run, levels=["ERROR"])
    assert [line.text for line in page.items] == ["on_complete did nothing: there is no job `mail`"]
    with pytest.raises(NotFound):
        world.run_now(runs.start_run, world.caller, "mail", StartRun(), "run-x", world.now)


@pytest.mark.row("C15")
def test_a_job_of_the_system_is_hidden_and_protected(world: World):
    document = JobDocument.model_validate({**JOB, **NOBODY, "name": "renew"})
    world.run_now(jobs.save_job, world.caller, document, world.now, system=True)
    run = world.start("renew")
    for refused in (
        lambda: delete(world, "renew"),
        lambda: world.save(name="renew", **NOBODY),
    ):
        with pytest.raises(NotPermitted) as error:
            refused()
        assert error.value.code == "protected"
    read = world.database.read_now
    assert read(job_views.list_jobs, DEFAULT_ORG, world.now).items == []
    assert read(run_views.list_runs, DEFAULT_ORG, world.now).items == []
    (shown,) = read(run_views.list_runs, DEFAULT_ORG, world.now, system=True).items
    assert (shown.id, shown.system) == (run, True)
    assert read(job_views.list_jobs, DEFAULT_ORG, world.now, system=True).items[0].system


@pytest.mark.row("C6")
def test_a_report_link_is_valid_for_seven_days_and_renewable(world: World):
    run = world.start_new(**NOBODY)

    def made() -> tuple[str, int]:
        link = world.run_now(links.make_report_link, world.caller, run, world.now, "http://here")
        assert link.csv.startswith(f"http://here/reports/{run}.csv?")
        return link.csv.rpartition("=")[2], int(link.expires_at.timestamp() * 1000)

    def opened(signature: str, until: int) -> str:
        return world.database.read_now(links.org_of_link, run, "csv", until, signature, world.now)

    old = made()
    world.now += links.LASTS_MS - 1
    assert opened(*old) == DEFAULT_ORG
    new = made()
    world.now += 1
    with pytest.raises(Gone) as expired:
        opened(*old)
    assert expired.value.code == "link_expired"
    assert opened(*new) == DEFAULT_ORG
