"""What ends a program again and again is left out: everything else goes on."""

import pytest

from contract.crash_points import CRASH_AT
from contract.lifecycle import RUN_ENDS
from roundsman.errors import RoundsmanError
from tests.kit.rig_jobs import ask, command_job, delay
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
        except RoundsmanError:  # the cloud may be what is down
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


@pytest.mark.row("E1")
def test_an_item_that_kills_the_cloud_is_refused_and_all_else_is_stored(rig):
    """As long as meter-2 is in that step, each report of it ends the cloud that takes it."""
    rig.add_gateway("north", [mqtt(meter) for meter in METERS])
    arm(rig.cloud, "gateway_link.in_item@poison:1")
    rig.restart_cloud()
    only = {"when": "target.id == 'meter-2'"}
    run = rig.start(
        command_job(steps=[ask("version"), {**delay("100s"), "id": "poison", **only}], timeout="2m")
    )
    deaths = 0

    def is_refused():
        nonlocal deaths
        if not rig.cloud.is_running:
            deaths += 1
            assert deaths < 10, rig.cloud.tail()
            rig.cloud.start()
        try:
            return rig.client.gateways.get("north").refused_items
        except RoundsmanError:
            return False

    wait_until(is_refused, 90, "the item to be refused")
    assert deaths in {2, 3}  # once among others, twice alone
    others = {meter: outcome(rig, run, meter) for meter in ("meter-1", "meter-3")}
    assert others == dict.fromkeys(others, ("succeeded", None))
    rig.client.runs.cancel(run, force=True)
    rig.finish(run, None)
    assert outcome(rig, run, "meter-2")[0] == "cancelled"
