"""Tasks in explicit mode: closed by a step, an MQTT reply, the API, a third party, another run."""

import json
import urllib.error
import urllib.request

import pytest

from contract.lifecycle import TaskStatus
from roundsman.errors import Conflict, NotAuthenticated
from tests.kit.mqtt_client import MqttClient
from tests.kit.rig_jobs import ask
from tests.kit.rig_site import mqtt, smp
from tests.kit.waiting import wait_until

REPLY = {
    "topic": "doors/{{ target.id }}/done",
    "match": "{'success': payload.ok, 'result': payload.code} "
    "if payload.task == task.id else false",
}


def job(explicit=None, steps=None, **fields):
    iteration = {"acknowledge": {"explicit": explicit or {}}, **fields.pop("iteration", {})}
    return {
        "name": "hand",
        "id": "hand",
        "iteration": iteration,
        "retry": {"attempts": 1},
        "steps": steps or [{"id": "asked", **ask("version")}],
        **fields,
    }


def awaiting(rig, run, device="pump-1"):
    found = rig.wait_for_task(run, device, lambda t: t.status is TaskStatus.AWAITING, "awaiting")
    assert found.waiting_for.code == "acknowledgment"
    return found


def log_of(rig, run):
    return [(line.level, line.text) for line in rig.client.runs.log(run)]


def journal_forgets(rig, site):
    """Until the gateway has closed what the cloud has ended: both sides list nothing open."""
    wait_until(
        lambda: any(t.late_outcome for t in rig.client.tasks.get(rig.last).attempts),
        20,
        "the gateway to learn of the end",
    )


@pytest.mark.row("B6")
def test_the_api_closes_what_awaits_and_the_device_is_free_meanwhile(rig):
    rig.add_gateway("north", [smp("pump-1")])
    run = rig.start(job())
    task = awaiting(rig, run)
    assert rig.client.devices.get("pump-1").held_by is None

    assert rig.client.tasks.acknowledge(task.id, result={"seen": 4}).verdict == "closed"
    rig.finish(run)

    ended = rig.client.tasks.get(task.id)
    assert (ended.status, ended.attempts[0].result) == (TaskStatus.SUCCEEDED, {"seen": 4})
    with pytest.raises(Conflict) as again:
        rig.client.tasks.acknowledge(task.id, success=False)
    assert again.value.problem.code == "acknowledged"
    assert rig.client.tasks.get(task.id).status is TaskStatus.SUCCEEDED
    assert ("WARNING", "an acknowledgment came twice: nothing changes") in log_of(rig, run)
    rig.last = task.id
    journal_forgets(rig, rig.sites["north"])


@pytest.mark.row("B6")
def test_a_word_before_the_steps_are_done_counts_once_they_are(rig):
    rig.add_gateway("north", [smp("pump-1")])
    slow = [
        {"id": "slow", "uses": "flow.delay", "with": {"for": "2s"}},
        {"id": "v", **ask("version")},
    ]
    run = rig.start(job(steps=slow))
    task = rig.wait_for_step(run, "pump-1", "slow")

    assert rig.client.tasks.acknowledge(task.id, text="early").verdict == "kept"
    with pytest.raises(Conflict):
        rig.client.tasks.acknowledge(task.id)
    rig.finish(run)
    assert rig.steps(run, "pump-1")["v"].status.value == "succeeded"


@pytest.mark.row("B6")
def test_a_failing_word_fails_the_task_and_a_failing_step_ends_it_at_once(rig):
    rig.add_gateway("north", [smp("pump-1")])
    run = rig.start(job())
    task = awaiting(rig, run)
    rig.cli("tasks", "acknowledge", task.id, "--failure", "--text", "no water")
    rig.finish(run, "failed")
    failure = rig.client.tasks.get(task.id).failure
    assert (failure.code, failure.text) == ("acknowledged_as_failed", "no water")

    broken = [{"uses": "flow.check", "with": {"that": "false"}}]
    document = {**job(steps=broken), "id": "broken", "name": "broken"}
    run = rig.start(document)
    rig.finish(run, "failed", deadline_s=10)


@pytest.mark.row("B6")
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_what_nobody_acknowledges_times_out_and_a_late_word_changes_nothing(
    make_rig, request, database
):
    url = request.getfixturevalue("postgres_url") if database == "postgresql" else None
    rig = make_rig(database=url)
    site = rig.add_gateway("north", [smp("pump-1")])
    run = rig.start(job(iteration={"timeout": "2s"}))
    task = awaiting(rig, run)
    site.kill_9()  # the cloud owns the rest of the time, whatever becomes of the gateway

    rig.finish(run, "failed")
    ended = rig.client.tasks.get(task.id)
    assert ended.status is TaskStatus.TIMED_OUT
    assert ended.failure.code == "never_acknowledged"
    with pytest.raises(Conflict) as late:
        rig.client.tasks.acknowledge(task.id)
    assert late.value.problem.code == "too_late"
    assert ("WARNING", "an acknowledgment came too late: nothing changes") in log_of(rig, run)
    assert rig.client.tasks.get(task.id).status is TaskStatus.TIMED_OUT


def post(url, token, body):
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


@pytest.mark.row("B6")
def test_a_third_party_closes_its_task_and_no_other(rig):
    rig.add_gateway("north", [smp("pump-1"), smp("pump-2")])
    steps = [
        {
            "id": "hand",
            "uses": "flow.set",
            "with": {"values": {"t": "{{ task.acknowledgment_token }}"}},
        }
    ]
    run = rig.start(job(steps=steps))
    mine, other = awaiting(rig, run), awaiting(rig, run, "pump-2")
    made = rig.client.tasks.acknowledgment_token(mine.id)
    handed = rig.steps(run, "pump-1")["hand"].result["t"]
    assert handed == made.token

    for token, task in ((made.token, other.id), ("ack_1_" + "0" * 40, mine.id), ("ack_", mine.id)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(f"{rig.url}/api/v1/tasks/{task}/acknowledge", token, {})
        refused.value.close()
        assert refused.value.code == 401
    with pytest.raises(urllib.error.HTTPError) as elsewhere:
        post(f"{rig.url}/api/v1/runs/{run}/cancel", made.token, {})
    elsewhere.value.close()
    assert elsewhere.value.code == 401
    with pytest.raises(urllib.error.HTTPError) as malformed:
        post(made.url, made.token, {"success": "perhaps so"})
    malformed.value.close()
    assert malformed.value.code == 422
    assert rig.client.tasks.get(mine.id).status is TaskStatus.AWAITING

    assert post(made.url, made.token, {"result": "done"})["verdict"] == "closed"
    rig.client.tasks.acknowledge(other.id)
    rig.finish(run)


@pytest.mark.row("B6")
@pytest.mark.parametrize("restart", [False, True])
def test_a_reply_on_a_topic_closes_the_task(rig, restart):
    site = rig.add_gateway("north", [mqtt("door-1")])
    run = rig.start(job(REPLY))
    task = awaiting(rig, run, "door-1")
    if restart:
        site.restart()
        site.wait_for_session()
    with MqttClient("panel", site.local_port) as panel:
        for wrong in ({"task": "another", "ok": True}, {"ok": True}, "{", [1]):
            panel.publish("doors/door-1/done", json.dumps(wrong).encode())
        reply = json.dumps({"task": task.id, "ok": True, "code": 7}).encode()

        def closed():
            panel.publish("doors/door-1/done", reply)  # the second one is a double
            return rig.client.tasks.get(task.id).status is TaskStatus.SUCCEEDED

        wait_until(closed, 20, "the reply to be heard")
    rig.finish(run)
    assert rig.client.tasks.get(task.id).attempts[0].result == 7


@pytest.mark.row("B6")
def test_a_step_says_how_the_task_ends(rig):
    rig.add_gateway("north", [smp("pump-1")])
    words = {"success": False, "text": "worn out", "result": {"wear": 9}}
    steps = [
        {"id": "word", "uses": "flow.acknowledge", "with": words},
        {"id": "more", "uses": "flow.set", "with": {"values": {"x": 1}}},
        {"id": "back", "uses": "flow.log", "with": {"text": "rolled back"}, "on_failure": True},
    ]
    run = rig.start(job(steps=steps))
    rig.finish(run, "failed")
    task = rig.task(run, "pump-1")
    assert (task.failure.code, task.failure.text) == ("acknowledged_as_failed", "worn out")
    states = {name: step.status.value for name, step in rig.steps(run, "pump-1").items()}
    assert states == {"word": "succeeded", "more": "succeeded", "back": "succeeded"}


@pytest.mark.row("B6")
def test_a_step_of_another_run_closes_the_task(rig):
    rig.add_gateway("north", [smp("pump-1"), smp("pump-2")])
    run = rig.start(job(targets={"query": {"id": "pump-1"}}))
    task = awaiting(rig, run)
    other = {
        "name": "other",
        "id": "other",
        "targets": {"query": {"id": "pump-2"}},
        "steps": [
            {
                "id": "close",
                "uses": "fleet.acknowledge",
                "with": {"task": task.id, "result": "by another"},
                "expect": "result.acknowledged",
            }
        ],
    }
    rig.finish(rig.start(other))
    rig.finish(run)
    assert rig.client.tasks.get(task.id).attempts[0].result == "by another"


@pytest.mark.row("B6")
def test_only_explicit_tasks_are_acknowledged_from_outside(rig):
    rig.add_gateway("north", [smp("pump-1")])
    plain = {**job(steps=[{"uses": "flow.delay", "with": {"for": "3s"}}]), "iteration": {}}
    run = rig.start(plain)
    task = rig.wait_for_task(run, "pump-1", lambda t: t.status is TaskStatus.RUNNING, "running")
    with pytest.raises(Conflict) as refused:
        rig.client.tasks.acknowledge(task.id)
    assert refused.value.problem.code == "not_awaited"
    with pytest.raises(NotAuthenticated):
        from roundsman._sync.client import Roundsman

        with Roundsman(rig.url, None) as stranger:
            stranger.tasks.acknowledge(task.id)
    rig.finish(run)


@pytest.mark.row("B6")
def test_a_forced_cancel_ends_what_awaits(rig):
    rig.add_gateway("north", [smp("pump-1")])
    run = rig.start(job(iteration={"timeout": "10m"}))
    awaiting(rig, run)
    rig.client.runs.cancel(run, force=True)
    rig.finish(run, "cancelled", deadline_s=15)
