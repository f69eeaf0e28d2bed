"""The power of a real gateway goes in the middle of its work: what its disk has kept is enough."""

from pathlib import Path

import pytest

from contract.lifecycle import StepStatus
from tests.kit.disks import failing_disk
from tests.kit.processes import Programs
from tests.kit.rig import Rig
from tests.kit.rig_jobs import ask, command_job
from tests.kit.rig_site import on_one_line

DEVICES = ("valve-1", "valve-2", "valve-3")


@pytest.mark.row("E1")
@pytest.mark.parametrize("seed", [None, 11])
def test_a_gateway_whose_power_goes_in_the_middle_of_work_ends_it_and_repeats_nothing(
    rig: Rig, tmp_path: Path, programs: Programs, seed: int | None
):
    steps = [ask("add", f"add_{n}") for n in range(8)]
    with failing_disk(tmp_path / "mounted", programs) as disk:
        site = rig.add_gateway("north", [on_one_line("rs485", *DEVICES)], data_dir=disk.path / "gw")
        before = rig.client.gateways.get("north").journal
        run = rig.start(command_job(steps=steps))
        site.devices.wait_for("valve-1", "done", 3)
        disk.cut_to([tmp_path / "after"], [seed])
        site.kill_9()
    reported = {device: rig.attempts(run, device)[-1].revision for device in DEVICES}
    site.write_config({**site.settings, "data_dir": str(tmp_path / "after" / "gw")})
    site.start()
    rig.finish(run, None)

    assert rig.client.gateways.get("north").journal == before
    for device in DEVICES:
        assert rig.attempts(run, device)[-1].revision > reported[device]
        # A command that was under way may have been done; it is not sent a second time.
        ended = [step.status for step in rig.steps(run, device).values()]
        known = ended.count(StepStatus.SUCCEEDED)
        assert site.devices.device(device)["counters"]["done"] in (known, known + 1)
        task = rig.task(run, device)
        assert task.tries == 1
        assert known == len(steps) or task.failure.code == "interrupted"
