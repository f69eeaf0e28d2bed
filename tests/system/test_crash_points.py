"""Crash points are where they say: a fleet that does a bit of everything comes to each of them."""

from pathlib import Path

import pytest

from cloud.crash_points import NAMES as CLOUD_PLACES
from contract.crash_points import CRASH_LOG
from gateway.__main__ import EXIT_RESTART
from gateway.crash_points import NAMES as GATEWAY_PLACES
from tests.kit.rig_jobs import firmware_job, restart_job
from tests.kit.rig_site import mqtt, smp


@pytest.mark.row("E1")
def test_every_named_crash_point_is_come_to(rig, tmp_path: Path):
    places = tmp_path / "places"
    site = rig.add_gateway("north", [smp("pump-1"), mqtt("meter-1")])
    site.write_config({**site.settings, "this_gateway": {}})
    for program in (site.program, rig.cloud):
        program.env = {CRASH_LOG: str(places)}
    rig.restart_cloud()
    site.restart()
    rig.push_image()
    rig.finish(rig.start(firmware_job()))
    run = rig.start(restart_job())
    assert site.program.wait(30) == EXIT_RESTART
    site.start()
    rig.finish(run)

    come_to = set(places.read_text().splitlines())
    everywhere = [f"gateway {name}" for name in GATEWAY_PLACES]
    everywhere += [f"cloud {name}" for name in CLOUD_PLACES]
    assert set(everywhere) - come_to == set()
