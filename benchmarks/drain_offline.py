"""How long do 10,000 task reports take that a gateway has kept while it was offline?

Real gateway, cloud (SQLite) and broker. The attempts are taken by a gateway that is only its
messages, under the id of a journal in which they then stand as ended; the real one finds them there
when it starts. Timed from its session to the last task's end in the cloud; every task must have
succeeded in its first attempt. The reference is the same messages to a subscriber that counts.
"""

import secrets
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.answers import Figure
from benchmarks.load import Load, LoadGateway, snapshot
from benchmarks.reports_made_durable import raw_messages_a_second
from contract.ids import DEFAULT_ORG, GatewayId
from contract.lifecycle import RunStatus
from contract.messages import MAX_BATCH, Report, TaskSnapshot, encode
from contract.topics import Address
from gateway.domain.facts import Instant
from gateway.journal import meta, tasks
from gateway.journal.database import open_database
from tests.kit.processes import Programs, programs_in
from tests.kit.rig import Rig
from tests.kit.rig_jobs import command_job

TASKS: Final = 10_000
REVISIONS: Final = 5
NAME: Final = "north"


def ask(rounds: int = 3) -> list[Figure]:
    ours, raw = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            place = Path(folder) / str(number)
            place.mkdir()
            with programs_in(place) as programs:
                seconds, messages = seconds_to_drain(place / "rig", programs)
                ours.append(seconds)
                rate = raw_messages_a_second(place / "raw", programs, messages)
                raw.append(len(messages) * MAX_BATCH / rate)
    return [Figure(f"{TASKS:,} reports drained", "s", ours, "the same messages, raw", raw)]


def seconds_to_drain(folder: Path, programs: Programs) -> tuple[float, list[bytes]]:
    """Seconds from the session to the end of the run, and messages as they are sent."""
    with Rig(folder, programs, "nats", settings={"limits": {"heartbeat": "10s"}}) as rig:
        devices = [f"device-{number}" for number in range(TASKS)]
        site = rig.add_gateway(NAME, start=False)
        # None of these lines is ever opened: there is nothing left to do on them.
        site.settings["devices"] = [
            {"id": each, "driver": "smp", "port": f"/dev/no-such-{each}"} for each in devices
        ]
        site.write_config(site.settings)
        journal = open_database(site.data_dir)
        identity = journal.run_now(meta.begin, secrets.token_hex(16))
        address = Address(DEFAULT_ORG, GatewayId(NAME))
        gateway = LoadGateway(address, devices, journal=identity.journal)
        load = Load(rig.broker_port, [gateway])
        try:
            load.hello()
            load.wait("a session", lambda: gateway.session)
            run = rig.start(command_job(concurrency=TASKS, timeout="1h"))
            load.wait("offers", lambda: len(gateway.offered) == TASKS, 300)
        finally:
            load.close()
        ended = [
            snapshot(task, attempt, REVISIONS, REVISIONS)
            for task, attempt in gateway.offered.items()
        ]
        journal.run_now(_keep, ended)
        journal.close()
        site.start()
        site.program.wait_for_line("session opened", 120)
        began = time.perf_counter()
        while rig.client.runs.get(run).ended_at is None:
            assert time.perf_counter() - began < 300, rig.describe(run)
            time.sleep(0.05)
        seconds = time.perf_counter() - began
        found = rig.client.runs.get(run)
        assert found.status is RunStatus.SUCCEEDED, rig.describe(run)
        assert found.counts.succeeded == found.counts.total == TASKS
        rows = rig.client.runs.tasks(run, limit=1000)
        assert {(row.device, row.attempt) for row in rows} == {(each, 1) for each in devices}
    batches = [ended[i : i + MAX_BATCH] for i in range(0, len(ended), MAX_BATCH)]
    return seconds, [encode(Report(session="s" * 36, message=1, tasks=each)) for each in batches]


def _keep(db: sqlite3.Connection, ended: Sequence[TaskSnapshot]) -> None:
    now = Instant(time.time_ns() // 1_000_000, 0)
    for each in ended:
        tasks.insert_ended(db, each, now)
