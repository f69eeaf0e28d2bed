"""One task about several targets, performed by a real central gateway."""

import csv
import io
import json

import pytest

from contract.http.targets import NewTable
from contract.lifecycle import RunStatus
from tests.kit.rig_site import smp
from tests.kit.waiting import wait_until
from tests.kit.web_server import Answer, WebServer, as_json

pytestmark = pytest.mark.row("B13")
PUMPS = ["pump-1", "pump-2", "pump-3"]


def job(*steps, batch, job="batch", **fields):
    return {
        "name": job,
        "id": job,
        "retry": {"attempts": 1},
        "iteration": {"batch": batch, "timeout": "60s"},
        "steps": list(steps),
        **fields,
    }


def test_a_batch_of_devices_is_one_task_with_a_result_for_each(make_rig):
    rig = make_rig(central=True)
    rig.add_gateway("north", [smp(name) for name in PUMPS])
    wait_until(lambda: rig.client.gateways.get("central").online, 60, "the central gateway")

    def answer(asked):
        body = json.loads(asked.body)
        if isinstance(body, list):
            return as_json([{"site": f"hall-{name}"} for name in body])
        return Answer(503, b"") if body == "pump-2" else as_json({"seen": body})

    with WebServer(answer) as service:
        # One request about all of them: the answer is an array as long as the batch.
        together = {
            "uses": "http.request",
            "id": "ask",
            "with": {"url": service.url, "method": "POST",
                     "json": "{{ targets | map(attribute='id') | list }}"},
        }  # fmt: skip
        give = {"uses": "flow.acknowledge", "with": {"result": "{{ steps.ask.result.body }}"}}
        run = rig.start(job(together, give, batch="all", job="together"))
        assert rig.finish(run).counts.total == 1
        # And a request for each, in a loop: who failed has an error in its place.
        each = {
            "uses": "flow.for_each",
            "id": "each",
            "with": {
                "items": "{{ targets }}",
                "on_error": "keep",
                "mode": "parallel",
                "step": {"uses": "http.request",
                         "with": {"url": service.url, "method": "POST", "json": "{{ item.id }}"}},
            },
        }  # fmt: skip
        loop = rig.start(job(each, batch=2, job="loop"))
        ended = rig.finish(loop)

    given = {one.target: one.response for one in rig.client.runs.results(run)}
    assert given == {name: {"site": f"hall-{name}"} for name in PUMPS}
    assert (ended.status, ended.counts.total, ended.targets) == (RunStatus.SUCCEEDED, 2, 3)
    found = {one.target: one for one in rig.client.runs.results(loop)}
    assert [found[name].ok for name in PUMPS] == [True, False, True]
    assert found["pump-1"].response["body"] == {"seen": "pump-1"}
    assert found["pump-2"].code == "http_failed"
    rows = list(csv.DictReader(io.StringIO(rig.client.runs.report(loop).decode())))
    assert [(row["target"], row["status"]) for row in rows] == [
        ("pump-1", "succeeded"), ("pump-2", "failed"), ("pump-3", "succeeded"),
    ]  # fmt: skip
    assert "503" in rows[1]["failure"]
    assert "2 targets" in rig.cli("runs", "tasks", loop).output()


def test_targets_that_fit_no_message_fail_with_the_reason(make_rig):
    rig = make_rig(central=True)
    wait_until(lambda: rig.client.gateways.get("central").online, 60, "the central gateway")
    rig.client.tables.create(NewTable(id="texts"))
    rig.client.tables.add_rows("texts", [{"text": "x" * 30_000} for _ in range(6)])
    note = {"uses": "flow.log", "with": {"text": "{{ targets | length }} rows"}}
    targets = {"resource": "row", "table": "texts"}

    run = rig.start(job(note, batch="all", targets=targets))
    rig.finish(run, RunStatus.FAILED)
    (task,) = rig.tasks(run)
    assert (task.failure.code, task.tries) == ("batch_too_large", 0)
    assert "128 KiB" in task.failure.text

    rig.finish(rig.start(job(note, batch=3, job="smaller", targets=targets)))
