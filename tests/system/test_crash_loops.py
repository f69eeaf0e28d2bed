"""What ends a program again and again is left out: everything else goes on."""

import pytest

from contract.crash_points import CRASH_AT
from contract.lifecycle import RUN_ENDS
from tests.kit.rig_jobs import ask, command_job
from tests.kit.rig_site import mqtt
from tests.kit.waiting import wait_until

METERS = ("meter-1", "meter-2", "meter-3")


def arm(program, place):
    program.env = {CRASH_AT: place}


def play_until_ended(rig, run, program, start):
    """An init system: whatever ends is started again; how often that was."""
    deaths = 0

    def is_over():
        nonlocal deaths
        if not program.is_running:
            deaths += 1
            assert deaths < 10, program.tail()
            start()
        try:
            return rig.client.runs.get(run).status in RUN_ENDS
        except Exception:  # noqa: BLE001 (the cloud may be what is down)
            return False

    wait_until(is_over, 90, "the run to end")
    return deaths


def outcome(rig, run, device):
    task = rig.task(run, device)
    return str(task.status), task.failure and task.failure.code


@pytest.mark.row("E1")
@pytest.mark.parametrize(
    ("place", "deaths"),
    [
        ("step.before_perform@meter-2:1", {3}),
        # Once among others, twice alone.
        ("journal.in_offer@meter-2:1", {2, 3}),
    ],
    ids=["step", "offer"],
)
def test_what_kills_the_gateway_again_and_again_fails_and_other_devices_go_on(rig, place, deaths):
    site = rig.add_gateway("north", [mqtt(meter) for meter in METERS])
    arm(site.program, place)
    site.restart()
    run = rig.start(command_job(steps=[ask("version"), ask("read", point="voltage")]))

    assert play_until_ended(rig, run, site.program, site.start) in deaths

    assert outcome(rig, run, "meter-2") == ("failed", "crashed_gateway")
    assert outcome(rig, run, "meter-1") == outcome(rig, run, "meter-3") == ("succeeded", None)
    rig.check(rig.client.runs.get(run))
