"""What does a task cost the coordinator and the broker, in fleets of 100 to 10,000 devices?

Real cloud process (SQLite) and real broker; gateways of `load.py`, which take every offer and
report each task twice. Timed from the start of the run to the last receipt; the reference is the
smallest fleet.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.answers import Figure
from benchmarks.load import Load, gateways, snapshot
from contract.lifecycle import RunStatus
from tests.kit.processes import Programs, programs_in
from tests.kit.rig import Rig
from tests.kit.rig_jobs import command_job

SIZES: Final = (100, 1_000, 10_000)
GATEWAYS: Final = 8
REVISIONS: Final = 2


def ask(rounds: int = 3) -> list[Figure]:
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            place = Path(folder) / str(size)
            place.mkdir()
            with programs_in(place) as programs:
                costs = milliseconds_a_task(place / "rig", programs, size, rounds)
            first = figures[0].runs if figures else ()
            figures.append(
                Figure(f"a task among {size:,} devices", "ms", costs, "among 100", first)
            )
    return figures


def milliseconds_a_task(folder: Path, programs: Programs, devices: int, rounds: int) -> list[float]:
    """Milliseconds for each task of a run over all devices, of each of `rounds` runs."""
    made = gateways(GATEWAYS, devices)
    costs = []
    with Rig(folder, programs, "nats") as rig:
        for gateway in made:
            rig.client.gateways.create(gateway.address.gateway)
        load = Load(rig.broker_port, made)
        try:
            load.hello()
            load.wait("sessions", lambda: all(gateway.session for gateway in made))
            rig.client.jobs.create(_document(devices))
            for number in range(rounds + 1):
                for gateway in made:
                    gateway.offered.clear()
                before = load.stored
                began = time.perf_counter()
                run = rig.client.jobs.run("command").id
                load.wait("offers", lambda: sum(len(g.offered) for g in made) == devices, 180)
                load.send(
                    {
                        gateway.address: [
                            snapshot(task, attempt, revision, REVISIONS)
                            for task, attempt in gateway.offered.items()
                            for revision in range(1, REVISIONS + 1)
                        ]
                        for gateway in made
                    }
                )
                done = before + REVISIONS * devices
                load.wait("receipts", lambda done=done: load.stored >= done, 180)
                seconds = time.perf_counter() - began
                load.wait("the end", lambda run=run: rig.client.runs.get(run).ended_at, 60)
                assert rig.client.runs.get(run).status is RunStatus.SUCCEEDED
                if number:  # the first one only warms up
                    costs.append(1000 * seconds / devices)
        finally:
            load.close()
    return costs


def _document(devices: int) -> str:
    return json.dumps(command_job(concurrency=devices, timeout="1h"))
