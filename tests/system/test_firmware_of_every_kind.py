"""Firmware jobs where the bootloader does not swap, where images are several, where none boots."""

import pytest

from firmware_sim.images import build_image
from tests.kit.rig_site import smp

ADDRESSES = [0x1_0000, 0x8_0000]


def job(name, steps, query):
    return {
        "name": name,
        "id": name,
        "type": "firmware",
        "targets": {"resource": "device", "query": query},
        "context": {"version": "2.0.0", "second": "xip-b"},
        "iteration": {"timeout": "60s"},
        "retry": {"attempts": 1},
        "steps": steps,
    }


def push(rig, name, address=None):
    data = build_image("2.0.0", 6000, name, address=address)
    rig.client.artifacts.push(name, data)


@pytest.mark.row("E6", "E9")
def test_images_linked_for_slots_and_a_network_core_beside_the_application(rig):
    in_place = {"boot_mode": "direct_xip_revert", "slot_addresses": ADDRESSES}
    site = rig.add_gateway(
        "north",
        [
            smp("xip-1", type="xip", **in_place),
            smp("radio-1", type="radio", further_images=[{"version": "1.1.0"}]),
        ],
    )
    for name, address in (("xip-a", ADDRESSES[0]), ("xip-b", ADDRESSES[1])):
        push(rig, name, address)
    push(rig, "app")
    push(rig, "net")
    per_slot = {"artifact": {"0": "xip-a", "1": "{{ ctx.second }}"}, "version": "2.0.0"}
    xip = job("xip", [{"uses": "firmware.update", "with": per_slot}], {"type": "xip"})
    images = [
        {"artifact": "app", "version": "2.0.0"},
        {"artifact": "net", "image": 1, "version": "2.0.0"},
    ]
    radio = job(
        "radio", [{"uses": "firmware.update", "with": {"images": images}}], {"type": "radio"}
    )
    runs = [rig.start(xip), rig.start(radio)]
    for run in runs:
        rig.finish(run)

    status = site.devices.status()
    assert (status["xip-1"]["version"], status["xip-1"]["confirmed"]) == ("2.0.0", True)
    assert status["radio-1"]["images"] == ["2.0.0", "2.0.0"]
    assert status["radio-1"]["counters"]["boots"] == 2  # both were tried in one restart
    steps = rig.steps(runs[1], "radio-1")
    assert list(steps) == [
        "upload", "upload_2", "test", "reset", "wait", "verify", "verify_2", "confirm",
    ]  # fmt: skip
    assert steps["verify_2"].result["image"] == 1


@pytest.mark.row("E6", "E9")
def test_a_device_whose_application_does_not_start_is_brought_back(rig):
    site = rig.add_gateway("north", [smp("pump-1", bricked=True)])
    push(rig, "app")
    steps = [
        {"uses": "firmware.recover", "with": {"artifact": "app", "version": "2.0.0"}},
        {"uses": "firmware.verify", "with": {"version": "2.0.0"}},
    ]
    run = rig.start(job("rescue", steps, {}))
    rig.finish(run)

    truth = site.devices.device("pump-1")
    assert (truth["version"], truth["recovery"]) == ("2.0.0", False)
    assert rig.steps(run, "pump-1")["recover"].result["uploaded"] is True
