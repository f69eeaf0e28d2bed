"""Tasks without a device run on the central gateway, a process beside the cloud."""

import json
import os
import stat

import psutil
import pytest

from tests.kit.waiting import wait_until


def central_process(rig):
    """The central gateway's process, once the cloud has started it."""

    def look():
        found = psutil.process_iter(["pid", "cmdline"])
        folder = str(rig.data_dir / "central-gateway")
        return next((p for p in found if any(folder in w for w in p.info["cmdline"] or ())), None)

    return wait_until(look, 20, "the central gateway's process")


def wait_until_online(rig):
    wait_until(lambda: rig.client.gateways.get("central").online, 20, "the central gateway")


def on_central(job="note", steps=None, **fields):
    return {
        "name": job,
        "id": job,
        "targets": {"resource": "gateway", "query": {"id": "central"}},
        "steps": steps or [{"uses": "flow.set", "with": {"values": {"seen": "{{ target.id }}"}}}],
        **fields,
    }


@pytest.mark.row("B15")
def test_a_task_without_a_device_runs_beside_the_cloud(make_rig):
    rig = make_rig(central=True)
    wait_until_online(rig)
    (central,) = rig.client.gateways.list()
    assert (central.id, central.central, central.devices) == ("central", True, 0)

    run = rig.start(on_central())
    rig.finish(run)

    (task,) = rig.tasks(run)
    assert (task.gateway, task.device, task.status.value) == ("central", None, "succeeded")
    assert rig.client.tasks.get(task.id).attempts[0].result == {"seen": "central"}
    folder = rig.data_dir / "central-gateway"
    assert stat.S_IMODE((folder / "token").stat().st_mode) == 0o600
    assert (folder / "token").read_text().strip() not in (folder / "gateway.json").read_text()


def test_it_is_started_again_and_goes_on_where_it_was(make_rig):
    rig = make_rig(central=True)
    wait_until_online(rig)
    steps = [
        {"id": "first", "uses": "flow.set", "with": {"values": {"n": 1}}},
        {"id": "pause", "uses": "flow.delay", "with": {"for": "1s"}},
    ]
    run = rig.start(on_central(steps=steps))
    rig.wait_for_one_in_step(run, "pause")
    first = central_process(rig)

    first.kill()
    rig.finish(run)

    assert central_process(rig).pid != first.pid
    (task,) = rig.tasks(run)
    assert task.attempt == 1


def test_it_ends_with_the_cloud_however_that_ends(make_rig):
    rig = make_rig(central=True)
    wait_until_online(rig)
    first = central_process(rig)
    journal = rig.client.gateways.get("central").journal

    rig.cloud.kill_9()
    wait_until(lambda: not first.is_running() or first.status() == "zombie", 10, "its end")
    rig.start_cloud()
    wait_until_online(rig)
    run = rig.start(on_central())
    rig.finish(run)
    assert rig.client.gateways.get("central").journal == journal

    second = central_process(rig)
    rig.cloud.terminate()
    assert not second.is_running()
    assert not os.path.exists(f"/proc/{second.pid}")


def test_what_is_configured_goes_over_what_is_written_for_it(make_rig):
    rig = make_rig(central=True)
    wait_until_online(rig)
    written = json.loads((rig.data_dir / "central-gateway" / "gateway.json").read_text())
    assert written["http"] == {"allow": ["127.0.0.0/8"]}
    assert written["gateway"] == "central"
