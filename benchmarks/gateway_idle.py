"""What does an idle gateway with 50 devices cost, in memory and processor time?

25 SMP devices on ptys and 25 MQTT devices on the gateway's own broker, all of which it has spoken
with. The reference is a process that has imported what the gateway stands on, and sleeps.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import psutil

from benchmarks.answers import Figure
from contract.lifecycle import RunStatus
from tests.kit.processes import Program, Programs, programs_in
from tests.kit.rig import Rig
from tests.kit.rig_jobs import ask as command
from tests.kit.rig_jobs import command_job

EACH: Final = 25
SETTLE_S: Final = 10.0
WATCH_S: Final = 20.0
LIBRARIES: Final = "asyncio, sqlite3, ssl, aiomqtt, cbor2, jinja2.sandbox, pydantic, uvloop, yaml"


def ask(rounds: int = 1) -> list[Figure]:
    resident, own, busy, bare = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            place = Path(folder) / str(number)
            place.mkdir()
            with programs_in(place) as programs:
                rss, pss, share = idle(place / "rig", programs)
                bare.append(bare_mib(place))
            resident.append(rss)
            own.append(pss)
            busy.append(share)
    return [
        Figure("resident (RSS)", "MiB", resident, "its libraries alone", bare),
        Figure("its share of it (PSS)", "MiB", own),
        Figure("processor time", "% of a core", busy),
    ]


def idle(folder: Path, programs: Programs) -> tuple[float, float, float]:
    """MiB resident, MiB by share, and percent of a core, once it has nothing to do."""
    groups = [
        {"personality": kind, "id": kind, "count": EACH, "image_size": 8192}
        for kind in ("smp", "mqtt")
    ]
    with Rig(folder, programs, "nats", settings={"limits": {"heartbeat": "10s"}}) as rig:
        site = rig.add_gateway("north", groups)
        run = rig.start(command_job("all", [command("echo", "echo", text="hi")], concurrency=50))
        rig.finish(run, RunStatus.SUCCEEDED, 120)
        process = psutil.Process(site.program.pid)
        time.sleep(SETTLE_S)
        before, began = sum(process.cpu_times()[:2]), time.monotonic()
        time.sleep(WATCH_S)
        share = 100 * (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began)
        memory = process.memory_full_info()
        return memory.rss / 2**20, memory.pss / 2**20, share


def bare_mib(folder: Path) -> float:
    code = f"import time, {LIBRARIES}; print('ready', flush=True); time.sleep(60)"
    with Program("bare", [sys.executable, "-c", code], folder / "bare.log").start() as bare:
        bare.wait_for_line("ready", 30)
        return bare.memory_bytes() / 2**20
