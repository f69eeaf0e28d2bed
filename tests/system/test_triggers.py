"""Jobs that start each other: what timed out is handled, what completed is told, once."""

import json
import urllib.error
import urllib.request

import pytest

from contract.lifecycle import RUN_ENDS
from roundsman.errors import Conflict, Gone
from tests.kit.rig_jobs import ask, command_job, delay
from tests.kit.rig_site import smp
from tests.kit.waiting import wait_until

LOG = {"uses": "flow.log", "with": {"text": "cleaning after {{ parameters.run.job }}"}}


def only_run(rig, job: str):
    runs = list(rig.client.runs.list(job=job))
    return runs[0] if len(runs) == 1 else None


def ended_run(rig, job: str):
    def look():
        run = only_run(rig, job)
        return run if run is not None and run.status in RUN_ENDS else None

    return wait_until(look, 60, lambda: f"one run of {job}: {list(rig.client.runs.list(job=job))}")


@pytest.mark.row("B7", "B8", "C6")
def test_timeouts_are_handled_and_the_end_is_told_once_though_the_cloud_is_killed(rig):
    rig.add_gateway("north", [smp(f"pump-{n}") for n in (1, 2, 3)])
    nobody = {"type": "nobody"}
    for job in (
        command_job("cleanup", [LOG, ask("version")], query=nobody),
        command_job("summary", [LOG], query=nobody),
    ):
        rig.client.jobs.create(json.dumps(job))
    document = command_job("slow", [delay("5m")], timeout="1s", concurrency=2)
    document |= {
        "on_timeout": [{"run": "cleanup"}],
        "on_complete": [{"run": "summary", "context": {"of": "{{ run.job }}"}}],
        "context": {"site": "berlin"},
    }
    run = rig.start(document)
    rig.wait_for_counts(run, lambda counts: counts.timed_out >= 1)
    rig.restart_cloud()
    rig.finish(run, "failed")

    cleanup = ended_run(rig, "cleanup")
    assert (cleanup.counts.succeeded, cleanup.counts.total) == (3, 3)
    assert (cleanup.origin.kind, cleanup.origin.run) == ("on_timeout", run)
    rig.finish(cleanup.id)
    said = [line.text for line in rig.client.runs.log(cleanup.id)]
    assert said.count("cleaning after slow") == 3

    summary = ended_run(rig, "summary")
    told = rig.client.runs.get(summary.id).context
    assert told["of"] == "slow"
    assert (told["trigger"]["run"]["timed_out"], told["trigger"]["run"]["total"]) == (3, 3)
    report = urllib.request.urlopen(told["trigger"]["run"]["report"]["csv"], timeout=10).read()
    assert report.count(b",timed_out,") == 3
    firings = list(rig.client.runs.triggers(run))
    assert [f.status for f in firings] == ["fired"] * 4
    assert {found.id for found in rig.client.runs.list(started_by=run)} == {cleanup.id, summary.id}


@pytest.mark.row("C5")
def test_a_job_is_deleted_while_it_runs(rig):
    rig.add_gateway("north", [smp(f"pump-{n}") for n in (1, 2)])
    run = rig.start(command_job("doomed", [delay("2s")], concurrency=1, timeout="30s"))
    busy = rig.wait_for_one_in_step(run, "delay")
    link = rig.client.runs.report_link(run)

    said = rig.cli("jobs", "delete", "doomed")

    assert said.returncode == 0, said.tail()
    with pytest.raises(Gone):
        rig.client.runs.get(run)
    with pytest.raises(urllib.error.HTTPError) as gone:
        urllib.request.urlopen(link.csv, timeout=10)
    assert gone.value.code == 410
    gone.value.close()
    # What was in flight completes and frees its device; nothing else starts.
    wait_until(lambda: rig.client.devices.get(busy.device).held_by is None, 30)
    assert list(rig.client.runs.list()) == []
    again = rig.client.jobs.create(json.dumps(command_job("doomed")))

    def started():
        try:
            return rig.client.jobs.run(again.id).id
        except Conflict:  # the run of its namesake ends a moment after its last task
            return None

    rig.finish(wait_until(started, 30))
