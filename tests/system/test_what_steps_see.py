"""What the expressions of a step can use, and how a job branches."""

import json

import pytest

from contract.http.targets import EditDevice
from tests.kit.rig_jobs import ask
from tests.kit.rig_site import smp

# Every name that a step may read, as a job would write it.
SEEN = {
    "target": "{{ target }}",
    "device": "{{ device.driver }}",
    "gateway": "{{ gateway.id }}",
    "ctx": "{{ ctx.site }}",
    "parameters": "{{ parameters.level }}",
    "item": "{{ item.parameters.level }}",
    "accumulator": "{{ accumulator }}",
    "earlier": "{{ steps.before.result.ok }}",
    "run_id": "{{ run.id }}",
    "run_job": "{{ run.job }}",
    "run_name": "{{ run.name }}",
    "run_type": "{{ run.type }}",
    "run_started": "{{ run.started_at }}",
    "run_counts": "{{ run.counts }}",
    "task_id": "{{ task.id }}",
    "task_index": "{{ task.index }}",
    "task_attempt": "{{ task.attempt }}",
    "task_is_retry": "{{ task.is_retry }}",
}


def seen(rig, run, device):
    """What the step `see` saw in the newest attempt."""
    task = rig.client.tasks.get(rig.task(run, device).id)
    newest = max(task.attempts, key=lambda attempt: attempt.attempt)
    return {step.id: step for step in newest.steps}["see"].result


@pytest.mark.row("A12")
def test_a_step_sees_its_whole_target_its_run_and_its_task(rig):
    rig.add_gateway("north", [smp("pump-1"), smp("pump-2")])
    rig.client.devices.edit("pump-1", EditDevice(tags={"depth": 12}, attributes={"serial": "x-1"}))
    job = {
        "name": "Look around",
        "id": "look",
        "type": "survey",
        "targets": {
            "items": [
                {"target": "pump-2", "parameters": {"level": 2}},
                {"target": "pump-1", "parameters": {"level": 1}},
            ]
        },
        "context": {"site": "berlin"},
        "iteration": {"mode": "serial"},
        "accumulator": "{{ (accumulator or 0) + 1 }}",
        "retry": {"on": ["failure"], "attempts": 2},
        "steps": [
            {"id": "before", "uses": "flow.set", "with": {"values": {"ok": True}}},
            {"id": "see", "uses": "flow.set", "with": {"values": SEEN}},
            {
                "id": "again",
                "uses": "flow.check",
                "when": "target.id == 'pump-1'",
                "with": {"that": "task.is_retry"},
            },
        ],
    }
    run = rig.start(job)
    rig.finish(run)
    shown = rig.client.runs.get(run)

    first = seen(rig, run, "pump-2")
    assert first["run_counts"]["total"] == 2
    assert (first["task_index"], first["task_attempt"], first["task_is_retry"]) == (0, 1, False)
    last = seen(rig, run, "pump-1")
    assert {name: last[name] for name in last if name not in ("target", "run_counts")} == {
        "device": "smp",
        "gateway": "north",
        "ctx": "berlin",
        "parameters": 1,
        "item": 1,
        "accumulator": 1,
        "earlier": True,
        "run_id": run,
        "run_job": "look",
        "run_name": "Look around",
        "run_type": "survey",
        "run_started": round(shown.started_at.timestamp() * 1000),
        "task_id": rig.task(run, "pump-1").id,
        "task_index": 1,
        "task_attempt": 2,
        "task_is_retry": True,
    }
    counts = last["run_counts"]
    assert set(counts) == set(shown.counts.model_dump())
    assert (counts["succeeded"], counts["total"]) == (1, 2)
    whole = last["target"]
    assert (whole["id"], whole["gateway"]) == ("pump-1", "north")
    assert whole["tags"]["depth"] == 12
    assert whole["attributes"]["serial"] == "x-1"
    assert {"type", "name", "state"} <= set(whole)


@pytest.mark.row("A12", "A6")
def test_steps_branch_by_conditions_and_by_named_lists(rig):
    rig.add_gateway("north", [smp("pump-1"), smp("pump-2")])
    job = {
        "name": "branch",
        "targets": {
            "items": [
                {"target": "pump-1", "steps": "gentle"},
                {"target": "pump-2", "steps": "thorough"},
            ]
        },
        "steps": {
            "gentle": [
                ask("version", "version"),
                {"id": "one", "uses": "flow.log", "when": "steps.version.result.version == '1'",
                 "with": {"text": "one"}},
                {"id": "other", "uses": "flow.log", "when": "steps.one.status == 'skipped'",
                 "with": {"text": "not one"}},
            ],
            "thorough": [{"id": "only", "uses": "flow.set", "with": {"values": {"n": 1}}}],
        },
    }  # fmt: skip
    run = rig.client.jobs.run(rig.client.jobs.create(json.dumps(job)).id).id
    rig.finish(run)
    gentle, thorough = rig.steps(run, "pump-1"), rig.steps(run, "pump-2")
    assert [gentle[step].status.value for step in ("one", "other")] == ["skipped", "succeeded"]
    assert set(thorough) == {"only"}
