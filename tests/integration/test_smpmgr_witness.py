"""A third party's tool, smpmgr, works with the simulated SMP device over its pty.

It shares no line of code with us, so framing, CBOR and states agree with the rest of the world.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from firmware_sim.images import build_image
from tests.kit.waiting import wait_until

SMPMGR = Path(sys.executable).with_name("smpmgr")
SCENARIO = """
seed: 7
devices:
  - {personality: smp, id: pump, version: 2.3.0, rx_lines: 2, boot_time: 100ms}
  - {personality: smp, ids: [noisy], version: 2.3.0, faults: {log_noise: 0.5}}
  - {personality: smp, ids: [old], version: 2.3.0, zephyr: 3.4.0, baud: 921600}
"""

pytestmark = pytest.mark.row("E9")


class Witness:
    """smpmgr on one device's port, beside what the simulator says of that device."""

    def __init__(self, folder: Path, device: str) -> None:
        self.port = folder / "dev" / device
        self._status = folder / "status.json"
        self._device = device

    def run(self, *arguments: str | Path) -> str:
        command = [str(SMPMGR), "--port", str(self.port), "--timeout", "5"]
        done = subprocess.run(
            [*command, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            env={"COLUMNS": "120", "PATH": "/usr/bin:/bin"},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def status(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self._status.read_text())["devices"][self._device]
        return told

    def listed(self) -> list[tuple[str, bool, bool]]:
        """Version, confirmed, active of every slot, as smpmgr prints them."""
        text = self.run("image", "state-read")
        versions = re.findall(r"version='([\d.]+)'", text)
        confirmed = re.findall(r"confirmed=(True|False)", text)
        active = re.findall(r"active=(True|False)", text)
        rows = zip(versions, confirmed, active, strict=True)
        return [(version, c == "True", a == "True") for version, c, a in rows]


@pytest.fixture
def sim(tmp_path, programs):
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(SCENARIO)
    status = tmp_path / "status.json"
    program = programs.python(
        "firmware_sim", scenario, "--dir", tmp_path / "dev", "--status-file", status
    )
    program.wait_for_line("old smp ")
    wait_until(status.exists, message="a status file")
    return program


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "pump-2.4.1.bin"
    path.write_bytes(build_image("2.4.1", 12000, seed=7))
    return path


@pytest.mark.parametrize(
    "device", ["pump-1", "noisy", pytest.param("old", marks=pytest.mark.campaign)]
)
def test_smpmgr_lists_uploads_tests_resets_and_confirms(sim, tmp_path, image, device):
    witness = Witness(tmp_path, device)
    assert witness.listed() == [("2.3.0", True, True)]
    witness.run("image", "upload", image)
    assert [version for version, _, _ in witness.listed()] == ["2.3.0", "2.4.1"]
    wait_until(lambda: witness.status()["slots"][1], message="the uploaded image in the status")
    witness.run("image", "state-write", witness.status()["slots"][1]["hash"])
    boots = witness.status()["counters"]["boots"]
    witness.run("os", "reset")
    wait_until(lambda: witness.status()["counters"]["boots"] > boots, message="a boot")
    assert witness.listed() == [("2.4.1", False, True), ("2.3.0", True, False)]
    witness.run("image", "state-write", "--confirm")
    assert witness.listed() == [("2.4.1", True, True)]
    wait_until(lambda: witness.status()["confirmed"], message="the confirmation in the status")
    assert witness.status()["version"] == "2.4.1"


def test_smpmgr_sees_an_unconfirmed_image_go_at_the_next_reset(sim, tmp_path, image):
    witness = Witness(tmp_path, "pump-1")
    witness.run("image", "upload", image)
    wait_until(lambda: witness.status()["slots"][1], message="the uploaded image in the status")
    witness.run("image", "state-write", witness.status()["slots"][1]["hash"])
    witness.run("os", "reset")
    wait_until(lambda: witness.status()["version"] == "2.4.1", message="the test boot")
    witness.run("os", "reset")
    wait_until(lambda: witness.status()["version"] == "2.3.0", message="the revert")
    assert witness.listed() == [("2.3.0", True, True), ("2.4.1", False, False)]


def test_the_simulator_ends_cleanly_and_takes_its_links_away(sim, tmp_path):
    assert sim.terminate() == 0
    assert list((tmp_path / "dev").iterdir()) == []
    assert set(json.loads((tmp_path / "status.json").read_text())["devices"]) == {
        "pump-1",
        "noisy",
        "old",
    }
