"""One-off runs in the future: pushed further and cancelled by people, programs and steps."""

import json
from datetime import timedelta

import pytest

from contract.http.runs import Run
from roundsman.errors import Conflict
from tests.kit.rig_jobs import command_job
from tests.kit.rig_site import smp

HOUR = timedelta(hours=1)


@pytest.mark.row("D5", "A12")
def test_a_planned_run_is_pushed_further_and_cancelled(rig):
    rig.add_gateway("north", [smp("pump-1")])
    rig.client.jobs.create(json.dumps(command_job("rollout")))
    push = {
        "uses": "fleet.postpone_run",
        "when": "ctx.wind > 20",
        "with": {"run": "{{ ctx.planned }}", "by": "1h", "reason": "wind {{ ctx.wind }}"},
    }
    stop = {"uses": "fleet.cancel_run", "when": "ctx.wind > 50",
            "with": {"run": "{{ ctx.planned }}"}}  # fmt: skip
    rig.client.jobs.create(json.dumps(command_job("weather", steps=[push, stop])))
    planned = rig.client.jobs.run("rollout", after=HOUR)
    assert planned.status == "scheduled"
    first = planned.starts_at

    def weather(wind):
        run = rig.client.jobs.run("weather", context={"wind": wind, "planned": planned.id})
        rig.finish(run.id)
        return rig.client.runs.get(planned.id)

    assert weather(5).starts_at == first
    assert weather(30).starts_at == first + HOUR
    assert any(line.text == "run postponed" for line in rig.client.runs.log(planned.id))
    assert rig.client.runs.postpone(planned.id, to=first + 3 * HOUR).starts_at == first + 3 * HOUR
    said = rig.cli("runs", "postpone", planned.id, "--by", "2h", "-o", "json")
    assert said.returncode == 0
    assert Run.model_validate_json(said.output()).starts_at == first + 5 * HOUR
    assert weather(60).status == "cancelled"
    with pytest.raises(Conflict) as refused:
        rig.client.runs.postpone(planned.id, by=HOUR)
    assert refused.value.problem.code == "run_ended"

    soon = rig.client.jobs.run("rollout", after=timedelta(milliseconds=300))
    rig.finish(soon.id)
    assert rig.client.runs.get(soon.id).started_at >= soon.starts_at
    running = rig.client.jobs.run("weather", context={"wind": 99, "planned": soon.id})
    rig.finish(running.id, "failed")
    assert "ended" in rig.task(running.id, "pump-1").failure.text
