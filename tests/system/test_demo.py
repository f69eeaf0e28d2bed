"""The newcomer's minute, whole: `roundsman demo` starts everything and ends as it says."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import psutil


def test_the_demo_updates_24_devices_shows_a_failure_and_a_recovery_and_leaves_nothing(
    tmp_path: Path,
):
    site = tmp_path / "demo"
    code = "from roundsman.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "demo", "--dir", str(site)],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
        env={key: value for key, value in os.environ.items() if not key.startswith("ROUNDSMAN_")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "23 of 24 succeeded, 1 failed" in done.stdout
    assert "image_refused" in done.stdout
    assert "recovered: lost its line" in done.stdout
    with (site / "report.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["target"] for row in rows if row["status"] == "failed"} == {"pump-4"}
    assert len(rows) == 24
    for process in psutil.process_iter(["cmdline"]):
        assert str(site) not in " ".join(process.info["cmdline"] or [])
