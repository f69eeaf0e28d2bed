"""A gateway's clock stands in 1970, or jumps by years: nothing ends early, late or unseen."""

from pathlib import Path

import pytest

from contract.http.tasks import Step
from tests.kit.rig import Rig
from tests.kit.rig_jobs import ask, command_job
from tests.kit.rig_site import on_one_line
from tests.kit.waiting import wait_until
from tests.kit.wrong_clock import WrongClock, is_about_now

YEAR_S = 365 * 86_400


def off_s(rig: Rig) -> float:
    return float(str(rig.client.gateways.get("north").health.get("clock_off_ms", 0))) / 1000


def is_shown_right(step: Step) -> bool:
    times = [moment for moment in (step.started_at, step.completed_at) if moment is not None]
    return bool(times) and all(is_about_now(moment) for moment in times)


@pytest.mark.row("E1")
def test_a_clock_in_1970_is_told_and_the_clouds_time_is_shown(rig: Rig, tmp_path: Path):
    clock = WrongClock(tmp_path)
    clock.set_to_1970()
    rig.add_gateway("north", [on_one_line("rs485", "valve-1")], env=clock.env)
    run = rig.start(command_job(steps=[ask("add", "add")]))
    rig.finish(run)

    assert is_shown_right(rig.steps(run, "valve-1")["add"])
    wait_until(lambda: off_s(rig) < -50 * YEAR_S, 30, lambda: f"off by {off_s(rig)}")
    shown = rig.cli("gateways", "get", "north").output()
    assert "CLOCK\t" in shown
    assert "behind" in shown

    clock.set(0)  # the network's time has come
    wait_until(lambda: abs(off_s(rig)) < 5, 30, lambda: f"off by {off_s(rig)}")


@pytest.mark.row("E1")
@pytest.mark.parametrize(("jump_s", "is_offline"), [(20 * YEAR_S, True), (-7200, False)])
def test_a_clock_that_jumps_while_a_step_runs_changes_nothing_but_what_is_shown(
    rig: Rig, tmp_path: Path, jump_s: int, is_offline: bool
):
    clock = WrongClock(tmp_path)
    site = rig.add_gateway("north", [on_one_line("rs485", "valve-1")], uplink=True, env=clock.env)
    work = ask("work", "work", timeout="40s", seconds=2)
    run = rig.start(command_job(steps=[work, {**ask("add", "last"), "timeout": "20s"}]))
    rig.wait_for_step(run, "valve-1", "work")
    if is_offline:
        site.uplink.cut()
    clock.set(jump_s)
    site.program.wait_for_line("attempt succeeded")
    if is_offline:
        site.uplink.restore()
    rig.finish(run)

    assert rig.task(run, "valve-1").tries == 1
    assert all(is_shown_right(step) for step in rig.steps(run, "valve-1").values())
    wait_until(lambda: abs(off_s(rig) - jump_s) < 60, 30, lambda: f"off by {off_s(rig)}")
    # Twenty years later all that has ended would be long gone.
    assert "tidied" not in site.program.log.read_text()
