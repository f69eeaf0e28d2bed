"""Unmodified AWS IoT Jobs clients behind a gateway: a step hands them a job, and follows it."""

import json

import pytest

from contract.lifecycle import RunStatus, TaskStatus
from tests.kit.ports import free_port
from tests.kit.waiting import wait_until

pytestmark = pytest.mark.row("E4", "E5")


class AwsSite:
    """A gateway with things, and a program on Amazon's SDK for each."""

    def __init__(self, rig, *things, uplink=False):
        self.rig = rig
        self.site = rig.add_gateway("north", uplink=uplink, start=False)
        self.port = free_port()
        self.things = things
        device = {"driver": "aws_jobs", "type": "aws", "patience": "2s"}
        self.site.write_config(
            {
                **self.site.settings,
                "local_broker": {"listen": f"127.0.0.1:{self.port}"},
                "devices": [{"id": f"pump-{n}", "thing": t, **device} for n, t in
                            enumerate(things, start=1)],
            }
        )  # fmt: skip
        self.site.settings["devices"] = [None] * len(things)
        self.site.start()
        rig.wait_for_devices(self.site)

    def start_client(self, thing, client="v1"):
        words = ["--port", str(self.port), "--thing", thing, "--client", client]
        path = self._experiences(thing)
        return self.rig.programs.python(
            "tests.kit.aws_device", *words, "--experiences", path, name=f"device-{thing}"
        )

    def said(self, thing, what):
        path = self._experiences(thing)
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in map(json.loads, lines) if line["what"] == what]

    def wait_for(self, thing, what, count=1):
        wait_until(lambda: len(self.said(thing, what)) >= count, 60, f"{thing}: {what}")

    def _experiences(self, thing):
        return self.site.folder / f"{thing}.jsonl"


def job(document, *, with_=None, **fields):
    given = {"document": document, **(with_ or {})}
    step = {"id": "hand", "uses": "device.delegate", "with": given}
    own = {"name": "handed over", "id": "handed", "retry": {"attempts": 1}}
    return {**own, "targets": {"resource": "device", "query": {"type": "aws"}},
            "iteration": {"timeout": "5m"}, "steps": [step], **fields}  # fmt: skip


def test_a_job_goes_on_through_kill_9_and_a_cut_uplink_and_ends_once(rig, tmp_path):
    aws = AwsSite(rig, "Pump:North_1", uplink=True)
    aws.start_client("Pump:North_1")
    hold = tmp_path / "go-on"
    document = {"operation": "install", "version": "{{ ctx.version }}", "hold": str(hold)}
    run = rig.start(job(document, context={"version": "2.1.0"}))

    def is_halfway(task):
        return any(step.progress >= 66 for attempt in task.attempts for step in attempt.steps)

    rig.wait_for_task(run, "pump-1", is_halfway, "progress to be seen")
    aws.site.uplink.cut()
    aws.site.kill_9()
    hold.touch()  # the device ends its work while nobody is there
    aws.site.start()
    aws.wait_for("Pump:North_1", "done")
    aws.site.program.wait_for_line("attempt succeeded", 60)
    assert rig.task(run, "pump-1").status is not TaskStatus.SUCCEEDED
    aws.site.uplink.restore()
    rig.finish(run)

    step = rig.steps(run, "pump-1")["hand"]
    assert step.result == {"result": "installed", "parts": "2"}
    assert (step.tries, rig.task(run, "pump-1").tries) == (1, 1)
    (began,) = aws.said("Pump:North_1", "began")
    assert (began["number"], began["document"]["version"]) == (1, "2.1.0")
    versions = [line["version"] for line in aws.said("Pump:North_1", "said")]
    assert versions == [3, 4, 5]  # never back, never twice
    assert len(aws.said("Pump:North_1", "done")) == 1


def test_a_device_that_comes_late_finds_its_job_and_each_thing_only_its_own(rig):
    aws = AwsSite(rig, "one", "two")
    run = rig.start(job({"for": "{{ device.id }}"}))
    rig.wait_for_step(run, "pump-1", "hand")
    rig.wait_for_step(run, "pump-2", "hand")
    aws.start_client("one", "v1")
    aws.start_client("two", "v2")
    rig.finish(run)
    for number, thing in enumerate(("one", "two"), start=1):
        (began,) = aws.said(thing, "began")
        assert began["document"] == {"for": f"pump-{number}"}


def test_what_the_device_says_no_to_fails_with_its_name(rig):
    aws = AwsSite(rig, "one")
    aws.start_client("one")
    for end, code in (("FAILED", "delegate_failed"), ("REJECTED", "delegate_rejected")):
        run = rig.start(job({"end": end}, id=f"ends-{end.lower()}"))
        rig.finish(run, RunStatus.FAILED)
        step = rig.steps(run, "pump-1")["hand"]
        assert step.failure.code == code
        assert step.result["result"] == "installed"


def test_a_forced_cancel_is_told_to_a_device_at_work(rig, tmp_path):
    aws = AwsSite(rig, "one")
    aws.start_client("one")
    hold = tmp_path / "go-on"
    run = rig.start(job({"hold": str(hold)}))
    aws.wait_for("one", "said", 2)
    rig.client.runs.cancel(run, force=True)
    rig.finish(run, RunStatus.CANCELLED)
    hold.touch()
    aws.wait_for("one", "given up")
    (given_up,) = aws.said("one", "given up")
    assert (given_up["code"], given_up["status"]) == ("InvalidStateTransition", "CANCELED")


def test_work_that_takes_too_long_is_timed_out_on_both_sides(rig, tmp_path):
    aws = AwsSite(rig, "one")
    aws.start_client("one")
    hold = tmp_path / "go-on"
    run = rig.start(job({"hold": str(hold)}, with_={"timeout": "3s"}))
    rig.finish(run, RunStatus.FAILED)
    assert rig.steps(run, "pump-1")["hand"].failure.code == "delegate_timed_out"
    hold.touch()
    aws.wait_for("one", "given up")
    assert aws.said("one", "given up")[0]["status"] == "TIMED_OUT"


def test_a_forced_cancel_takes_back_what_the_device_has_not_begun(rig):
    aws = AwsSite(rig, "one")
    run = rig.start(job({"for": "nobody"}))
    rig.wait_for_step(run, "pump-1", "hand")
    rig.client.runs.cancel(run, force=True)
    rig.finish(run, RunStatus.CANCELLED)
    assert rig.steps(run, "pump-1")["hand"].failure.code == "interrupted"
    aws.start_client("one")
    aws.wait_for("one", "listening")
    rig.finish(rig.start(job({"for": "one"}, id="next")))
    (began,) = aws.said("one", "began")
    assert began["document"] == {"for": "one"}
