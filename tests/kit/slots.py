"""A gateway whose software lies in two slots: its bundles, and what starts it again and again."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, Final

from tests.kit.processes import REPOSITORY
from tests.kit.rig_site import Site

UPDATER: Final = REPOSITORY / "configs" / "updaters" / "slots"
# A service manager in short: whatever ends is started again. One start of them may be armed.
KEEP_RUNNING: Final = """
n=0
while :; do
  n=$((n + 1))
  if [ "$n" = "$ARMED_START" ]; then export ROUNDSMAN_CRASH_AT="$ARMED_AT"
  else unset ROUNDSMAN_CRASH_AT; fi
  "$@"
  echo "ended with $?"
done
"""


def bundle(version: str, script: str | None = None) -> bytes:
    """A .tar.gz that holds this version: the gateway of this repository, or another script."""
    run = script or f'exec {sys.executable} -m gateway "$@"'
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        files = {"VERSION": version + "\n", "bin/gateway": f"#!/bin/sh\n{run}\n"}
        for name, text in files.items():
            about = tarfile.TarInfo(name)
            about.size, about.mode = len(text), 0o755
            tar.addfile(about, io.BytesIO(text.encode()))
    return out.getvalue()


class Slots:
    """The folder of the reference updater, with a version installed."""

    def __init__(self, folder: Path, version: str = "1.0.0") -> None:
        self.folder = folder
        first = folder.with_name(f"{version}.tar.gz")
        first.write_bytes(bundle(version))
        self.do("install", first)

    @property
    def command(self) -> list[str]:
        return [str(UPDATER), "--folder", str(self.folder)]

    def do(self, *words: str | Path) -> str:
        """A verb that is done; its output."""
        command = [*self.command, *map(str, words)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.do("status"))
        return found

    @property
    def running(self) -> tuple[str, bool]:
        """The version that runs, and whether it is confirmed."""
        status = self.status()
        return status["running"]["version"], status["confirmed"]

    def keep_running(self, site: Site, crash_at: str = "", in_start: int = 1) -> None:
        """Start the gateway from its slot, again whenever it ends; one of its starts is armed."""
        update = {"program": self.command, "timeout": "20s", "cloud_within": "30s"}
        site.write_config({**site.settings, "this_gateway": {"update": update}})
        start = [*self.command, "start", "--", "bin/gateway", str(site.config)]
        armed = {"ARMED_AT": crash_at, "ARMED_START": str(in_start)}
        site.start_by("sh", "-c", KEEP_RUNNING, "keep-running", *start, env=armed)
