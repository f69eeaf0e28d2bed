"""What steps ask of the cloud happens exactly once, whatever is lost, doubled or killed."""

import json
import threading
import urllib.request

import pytest

from tests.kit.rig_site import smp
from tests.kit.waiting import wait_until


def job(*steps, job_id="calls", **fields):
    fields.setdefault("retry", {"attempts": 1})
    return {"name": job_id, "id": job_id, "steps": list(steps), **fields}


def call(step, verb, **parameters):
    return {"id": step, "uses": f"fleet.{verb}", "with": parameters}


def api(rig, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {rig.token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{rig.url}/api/v1/{path}", data, headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def other_job(rig):
    """A job whose runs end at once: each call of run_job leaves one."""
    document = job({"uses": "flow.log", "with": {"text": "x"}}, job_id="other",
                   targets={"query": {"id": "nobody"}})  # fmt: skip
    rig.client.jobs.create(json.dumps(document))


def runs_of_other(rig):
    return [run.id for run in rig.client.runs.list(job="other")]


@pytest.mark.row("A12")
def test_steps_change_the_fleet_with_the_rights_of_who_started_the_run(rig):
    rig.add_gateway("north", [smp("pump-1"), smp("pump-2")])
    other_job(rig)
    document = job(
        call("tag", "tag", tags={"round": "{{ run.id }}"}),
        call("set", "set", attributes={"checked": True}),
        call("state", "record_state", values={"bar": 2.5}),
        call("near", "tag", device="pump-2", tags={"near": "{{ target.id }}"}),
        call("next", "run_job", job="other", context={"from": "{{ target.id }}"}),
        targets={"query": {"id": "pump-1"}},
    )
    run = rig.start(document)
    rig.finish(run)
    device = rig.client.devices.get("pump-1")
    assert device.tags["round"] == run
    assert (device.attributes["checked"], device.state["bar"]) == (True, 2.5)
    assert rig.client.devices.get("pump-2").tags["near"] == "pump-1"
    (started,) = runs_of_other(rig)
    assert rig.steps(run, "pump-1")["next"].result["run"] == started
    assert rig.client.runs.get(started).context["from"] == "pump-1"
    me = rig.client.runs.get(run)
    assert rig.client.runs.get(started).run_by == me.run_by


@pytest.mark.row("A12")
def test_rows_are_written_edited_and_deleted(rig):
    rig.add_gateway("north", [smp("pump-1")])
    api(rig, "tables", {"id": "visits"})
    row = "{{ steps.add.result.row }}"
    values = {"device": "{{ target.id }}", "level": 1}
    run = rig.start(
        job(
            call("add", "write_row", table="visits", values=values),
            call("more", "write_row", table="visits", values=values),
            call("edit", "write_row", table="visits", row=row, values={"level": 7}),
            call("drop", "delete", table="visits", row="{{ steps.more.result.row }}"),
        )
    )
    rig.finish(run)
    (kept,) = api(rig, "tables/visits/rows")["items"]
    assert kept["values"] == {"device": "pump-1", "level": 7}


@pytest.mark.row("A12")
def test_a_run_in_flight_is_named_in_the_failure_and_can_be_cancelled(rig):
    rig.add_gateway("north", [smp("pump-1"), smp("pump-2")])
    slow = {"uses": "flow.delay", "with": {"for": "30s"}}
    busy = rig.start(job(slow, job_id="other", targets={"query": {"id": "pump-2"}}))
    again = call("again", "run_job", job="other")
    end = {**call("end", "cancel_run", run=busy, force=True), "always": True}
    run = rig.start(job(again, end, targets={"query": {"id": "pump-1"}}))
    rig.finish(run, "failed")
    failure = rig.steps(run, "pump-1")["again"].failure
    assert (failure.code, busy in failure.text) == ("call_refused", True)
    rig.finish(busy, "cancelled")


@pytest.mark.row("A12")
def test_a_key_of_the_jobs_own_counts_for_the_whole_run(rig):
    rig.add_gateway("north", [smp("pump-1"), smp("pump-2"), smp("pump-3")])
    other_job(rig)
    once = {**call("next", "run_job", job="other"), "key": "only-{{ run.id }}"}
    run = rig.start(job(once))
    rig.finish(run)
    (started,) = runs_of_other(rig)
    results = {rig.steps(run, f"pump-{n}")["next"].result["run"] for n in (1, 2, 3)}
    assert results == {started}


def wait_for_more(rig, before):
    wait_until(lambda: len(runs_of_other(rig)) > before, 40, "one more call")


@pytest.mark.row("A12")
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.campaign)])
def test_a_call_happens_once_though_everything_fails(rig, seed):
    """A loop of calls while the uplink is cut, the gateway killed and the cloud killed."""
    site = rig.add_gateway("north", [smp("pump-1")], uplink=True)
    other_job(rig)
    each = {"uses": "fleet.run_job", "with": {"job": "other", "context": {"n": "{{ item }}"}}}
    loop = {"id": "loop", "uses": "flow.for_each", "with": {"items": list(range(25)), "step": each}}
    run = rig.start(job({**loop, "retry": {"attempts": 50, "delay": "300ms"}}))
    rig.wait_for_step(run, "pump-1", "loop")
    wait_until(lambda: len(runs_of_other(rig)) >= 3, 20, "the first calls")

    faults = [site.uplink.cut, site.uplink.restore, site.restart, rig.restart_cloud, site.restart]
    if seed == 2:
        faults = [rig.restart_cloud, site.restart, site.uplink.cut, site.uplink.restore]
    for fault in faults:
        before = len(runs_of_other(rig))
        fault()
        if fault != site.uplink.cut:
            threading.Event().wait(0.2)
            wait_for_more(rig, min(before, 24))
    rig.finish(run, deadline_s=60)

    results = [r["run"] for r in rig.steps(run, "pump-1")["loop"].result]
    assert len(set(results)) == 25
    assert sorted(runs_of_other(rig)) == sorted(results)
    contexts = [rig.client.runs.get(each_run).context["n"] for each_run in results]
    assert contexts == list(range(25))
