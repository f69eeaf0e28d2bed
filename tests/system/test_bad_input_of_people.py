"""What people get wrong is said with its place, and nothing is half-created."""

import json

import pytest

from firmware_sim.images import build_image
from roundsman.errors import BadRequest, Conflict
from tests.kit.rig_jobs import command_job, firmware_job
from tests.kit.rig_site import smp


@pytest.mark.row("C9")
def test_a_malformed_job_is_refused_with_file_line_and_key(rig, tmp_path):
    document = tmp_path / "job.yaml"
    document.write_text("name: pumps\nsteps:\n  - uses: device.comand\n    with: {name: version}\n")

    program = rig.cli("jobs", "create", "--file", document)

    assert program.returncode not in (0, None)
    assert f"{document}:3:" in program.output()
    assert "steps[0].uses" in program.output()
    assert "device.command" in program.output()
    assert list(rig.client.jobs.list()) == []


@pytest.mark.row("C9")
def test_the_service_says_where_a_document_is_wrong(rig):
    command = {"uses": "device.command", "with": {}}
    template = {"uses": "flow.set", "with": {"values": {"a": "{{ 1 +"}}}
    for broken, place in (
        ({"steps": []}, "steps"),
        ({"steps": [command]}, "steps[0].with.name"),
        ({"steps": [template]}, "steps[0].with.values.a"),
        ({"iteration": {"timeout": "soon"}}, "iteration.timeout"),
        ({"itteration": {}}, "itteration"),
    ):
        with pytest.raises(BadRequest) as refused:
            rig.client.jobs.create(json.dumps({**command_job("broken"), **broken}))
        assert place in [item.key for item in refused.value.problem.errors]
    assert list(rig.client.jobs.list()) == []


@pytest.mark.row("E11")
def test_what_is_no_image_is_not_stored_as_one(rig):
    good = build_image("2.0.0", 8_000)
    for name, data in (
        ("wrong-magic", b"\x00" * 4 + good[4:]),
        ("cut-short", good[:-40]),
        ("empty", b""),
    ):
        with pytest.raises(BadRequest) as refused:
            rig.client.artifacts.push(name, data, kind="image")
        assert refused.value.problem.code == "image_invalid"
        assert refused.value.problem.detail
    assert list(rig.client.artifacts.list()) == []
    rig.client.artifacts.push("taken", good, kind="image")
    with pytest.raises(Conflict) as taken:
        rig.client.artifacts.push("taken", build_image("2.0.1", 8_000), kind="image")
    assert taken.value.problem.code == "name_taken"


@pytest.mark.row("C9")
def test_a_run_of_an_unknown_artifact_does_not_start(rig):
    rig.client.jobs.create(json.dumps(firmware_job(artifact="nowhere")))

    with pytest.raises(BadRequest) as refused:
        rig.client.jobs.run("firmware")

    assert refused.value.problem.code == "unknown_artifact"
    assert "nowhere" in refused.value.problem.detail
    assert refused.value.problem.errors[0].key == "steps[0].with.artifact"
    assert list(rig.client.runs.list()) == []
    rig.push_image("2.0.0")
    assert rig.client.jobs.run("firmware", context={"version": "2.0.0", "image": "image-2.0.0"})


@pytest.mark.row("C9")
def test_a_target_that_nobody_owns_is_no_task(rig):
    rig.add_gateway("north", [smp("pump-1")])

    ended = rig.finish(rig.start(command_job(query={"id": "pump-99"})))

    assert ended.counts.total == 0
    assert list(rig.client.runs.tasks(ended.id)) == []


def test_a_gateway_is_told_what_is_wrong_with_its_configuration(rig):
    site = rig.add_gateway("north", [smp("pump-1")], start=False)
    site.config.write_text(
        "gateway: north\ncloud: {url: 'http://127.0.0.1:1'}\n"
        "devices:\n  - {id: pump-1, driver: smp, prot: /dev/ttyUSB0}\n"
    )
    check = rig.programs.python("gateway", "--check", site.config, name="check")

    assert check.wait() == 2
    assert f"{site.config}:4:" in check.output()
    assert "prot" in check.output() and "port" in check.output()
    started = rig.programs.python("gateway", site.config, name="started")
    assert started.wait() == 2
    assert not site.data_dir.exists()

    site.write_config(site.settings)
    good = rig.programs.python("gateway", "--check", site.config, name="good")
    assert good.wait() == 0


def test_the_cloud_and_the_simulator_say_it_too(programs, tmp_path):
    cloud, scenario = tmp_path / "cloud.yaml", tmp_path / "devices.yaml"
    cloud.write_text("http:\n  prot: 8080\n")
    scenario.write_text("devices:\n  - {personality: smp, id: pump, fualts: {}}\n")

    refused = programs.python("cloud", cloud)
    assert refused.wait() == 2
    assert f"{cloud}:2:" in refused.output() and "port" in refused.output()
    refused = programs.python("firmware_sim", scenario)
    assert refused.wait() == 2
    assert f"{scenario}:2:" in refused.output() and "faults" in refused.output()


def test_a_device_has_one_gateway_whoever_claims_it(rig):
    rig.add_gateway("north", [smp("pump-1")])
    claims_it = rig.add_gateway("south", [smp("pump-1")], start=False)
    claims_it.start()
    claims_it.wait_for_session()

    run = rig.start(command_job())
    rig.finish(run)

    assert rig.client.devices.get("pump-1").gateway == "north"
    assert rig.task(run, "pump-1").attempts[0].gateway == "north"
    assert claims_it.devices.device("pump-1")["counters"]["requests"] == 0
