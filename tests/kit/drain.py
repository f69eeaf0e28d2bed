"""A gateway that sends a large backlog of samples while tasks report: how long both take."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from contract.messages import DeviceState
from gateway.journal import outbox
from gateway.journal.database import FILE_NAME, open_database
from tests.kit.rig import Rig
from tests.kit.rig_jobs import ask, command_job
from tests.kit.rig_site import Site, mqtt
from tests.kit.waiting import wait_until

CHUNK: Final = 10_000
DEVICE: Final = "meter-1"


def fill(folder: Path, count: int) -> None:
    """Put samples of one device, a second apart, into the outbox of a gateway at rest."""
    began = time.time_ns() // 1_000_000 - count * 1000
    with closing(open_database(folder, inline=True)) as journal:
        journal.run_now(outbox.limit, 2 * count, 4_000_000_000)
        for start in range(0, count, CHUNK):
            numbers = range(start, min(start + CHUNK, count))
            journal.run_now(
                outbox.add,
                "backlog",
                [
                    DeviceState(number=0, at=began + n * 1000, device=DEVICE, values={"bar": n})
                    for n in numbers
                ],
            )


def site_with_samples(rig: Rig, count: int, **journal: Any) -> Site:
    """A gateway that is known to the cloud, stopped, with samples to send; `start` it."""
    site = rig.add_gateway("north", [mqtt(DEVICE)], start=False)
    site.settings["journal"] = {"max_lines": max(2 * count, 1000), **journal}
    site.settings["journal"]["max_bytes"] = 4_000_000_000
    site.write_config(site.settings)
    site.start()
    rig.wait_for_devices(site)
    site.program.terminate()
    assert (site.data_dir / FILE_NAME).exists()
    fill(site.data_dir, count)
    return site


def stored(rig: Rig) -> int:
    """How many samples the cloud has, read without its help."""
    path = f"file:{rig.data_dir / 'cloud.db'}?mode=ro"
    with closing(sqlite3.connect(path, uri=True, timeout=60)) as db:
        found = db.execute("SELECT sum(kept) FROM sample_counts").fetchone()[0]
    return int(found or 0)


def latencies(rig: Rig, job: str) -> Iterator[float]:
    """Seconds from the end of a task at the gateway to its end as the API tells it; each a run."""
    while True:
        run = rig.client.jobs.run(job).id

        def ended(run: str = run) -> Any:
            found = rig.tasks(run)
            return found[0] if found and found[0].ended_at is not None else None

        task = wait_until(ended, 60, "the task to end")
        seen_at = time.time_ns() / 1e9
        rig.client.runs.wait(run, timeout=timedelta(minutes=1))
        detail = rig.client.tasks.get(task.id)
        at = detail.attempts[0].ended_at
        assert at is not None
        yield max(seen_at - at.timestamp(), 0.0)


def drain(rig: Rig, count: int, per_s: int = 100_000) -> tuple[float, list[float], list[float]]:
    """Seconds until all samples are in; the latencies of task reports meanwhile, and without."""
    job = rig.client.jobs.create(json.dumps(command_job(steps=[ask("version")]))).id
    site = site_with_samples(rig, count, backlog_per_s=per_s)
    began = time.monotonic()
    site.start()
    site.wait_for_session(60)
    busy: list[float] = []
    reports = latencies(rig, job)
    while stored(rig) < count:
        busy.append(next(reports))
    lasted = time.monotonic() - began
    idle = [next(reports) for _ in range(min(len(busy), 50) or 1)]
    return lasted, busy, idle
