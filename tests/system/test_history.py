"""What an operator finds of a run afterwards, on the command line."""

import json

import pytest

from roundsman import entered_run
from tests.kit.rig_jobs import command_job, delay
from tests.kit.rig_site import smp


@pytest.mark.row("C10", "C11", "C12")
def test_a_run_is_waited_for_noted_and_found(rig):
    rig.add_gateway("north", [smp("pump-1")])
    log = {"uses": "flow.log", "with": {"text": "x"}}
    run = rig.start(command_job("noted", [delay("10s"), log]))

    reached = rig.cli("runs", "wait", run, "--for", "running,PENDING", "--timeout", "5s")
    assert reached.returncode == 0
    assert rig.cli("runs", "wait", run, "--timeout", "200ms").returncode == 8
    assert rig.cli("runs", "wait", run, "--timeout", "60s").returncode == 0
    assert rig.cli("runs", "wait", run, "--for", "cancelled", "--timeout", "60s").returncode == 3
    assert rig.cli("runs", "log", run, "--add", "valve stuck", "--level", "ERROR").returncode == 0
    with entered_run({"x-roundsman-run": run}):
        assert rig.client.runs.add_log("from inside")

    lines = [line.text for line in rig.client.runs.log(run, period="2h 30m", contains="v")]
    assert "valve stuck" in lines
    assert [line.text for line in rig.client.runs.log(run, level="ERROR")] == ["valve stuck"]
    assert "from inside" in [line.text for line in rig.client.runs.log(run, period="today")]
    found = json.loads(rig.cli("runs", "list", "--errors", "-o", "json").output())
    assert [item["id"] for item in found] == [run]
    (result,) = rig.client.runs.results(run)
    assert (result.target, result.ok) == ("pump-1", True)
