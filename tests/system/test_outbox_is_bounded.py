"""A gateway that is offline for long keeps results, and says what it could not keep beside them."""

import pytest

from tests.kit.rig_jobs import ask, command_job
from tests.kit.rig_site import mqtt
from tests.kit.waiting import wait_until

CAP = 100
LINES = 10 * CAP


@pytest.mark.row("E1")
def test_ten_times_the_cap_while_offline_costs_log_lines_and_no_result(rig):
    site = rig.add_gateway("north", [mqtt("meter-1")], uplink=True)
    site.write_config({**site.settings, "journal": {"max_lines": CAP}})
    site.restart()
    site.wait_for_session()
    one = {"uses": "flow.log", "with": {"text": "line {{ item }}"}}
    loop = {"uses": "flow.for_each", "with": {"items": list(range(LINES)), "step": one}}
    hold = {"uses": "flow.delay", "with": {"for": "1500ms"}}
    run = rig.start(command_job(steps=[{**hold, "id": "hold"}, loop, ask("version", "last")]))
    rig.wait_for_step(run, "meter-1", "hold")
    site.uplink.cut()
    site.program.wait_for_line("attempt succeeded")
    site.uplink.restore()
    rig.finish(run)

    told = wait_until(lambda: rig.client.gateways.get("north").dropped.get("logs", 0), 30)
    kept = sum(line.text.startswith("line ") for line in rig.client.runs.log(run))
    assert kept <= 2 * CAP
    assert kept + told >= LINES
    shown = rig.cli("gateways", "get", "north")
    assert f"DROPPED LINES\t{told} logs" in shown.output()
