"""Jobs on the command line and in files: named in any language, renamed, copied, deleted."""

import json

import pytest

from contract.http.jobs import Job
from tests.kit.rig_jobs import command_job
from tests.kit.rig_site import smp

NAME = "泵 更新 🚀"


def cli(rig, *words):
    done = rig.cli(*words, "-o", "json")
    assert done.returncode == 0, done.output()
    return done.output()


@pytest.mark.row("A1")
def test_a_job_is_renamed_copied_and_deleted_and_what_names_it_goes_on(rig, tmp_path):
    rig.add_gateway("north", [smp("pump-1")])
    note = {"uses": "flow.log", "with": {"text": "noted"}}
    handler = {**command_job("handler", [note]), "id": None, "name": NAME}
    made = rig.client.jobs.create(json.dumps(handler))
    call = {"id": "call", "uses": "fleet.run_job", "with": {"job": made.id}}
    rig.client.jobs.create(json.dumps(command_job("caller", [call])))

    file = tmp_path / "job.yaml"
    file.write_text(json.dumps({**handler, "name": "Handler", "description": "renamed"}))
    saved = Job.model_validate_json(cli(rig, "jobs", "save", "-f", file, "--job", made.id))
    assert (saved.id, saved.name, saved.revision) == (made.id, "Handler", 2)
    run = rig.client.jobs.run("caller").id
    rig.finish(run)
    started = rig.steps(run, "pump-1")["call"].result["run"]
    rig.finish(started)
    assert rig.client.runs.get(started).name == "Handler"

    copy = Job.model_validate_json(cli(rig, "jobs", "duplicate", made.id, "--name", NAME))
    assert (copy.name, copy.last_run_at) == (NAME, None)
    assert copy.id != made.id
    rows = rig.cli("jobs", "list").output().splitlines()
    assert any(NAME in row and "\tdevice\t" in row for row in rows)
    cli(rig, "jobs", "delete", made.id)
    assert {job.id for job in rig.client.jobs.list()} == {"caller", copy.id}
