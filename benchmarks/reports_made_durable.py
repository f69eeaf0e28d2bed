"""How many task reports does one coordinator process make durable in a second?

Real cloud process, real broker, on SQLite and on PostgreSQL; gateways of `load.py` report in
batches of 50. The reference writes the same rows, in batches of 1,000, straight into a database
of the same kind with the same tables; and sends the same messages through the same broker.
"""

import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from sqlalchemy import text
from sqlmodel import SQLModel

from benchmarks.answers import Figure
from benchmarks.load import Load, gateways, snapshot
from cloud.storage import schema
from cloud.storage.database import open_database
from contract.messages import MAX_BATCH, Report, TaskSnapshot, encode
from tests.kit.postgres import PostgresServer
from tests.kit.processes import Programs, programs_in
from tests.kit.rig import Rig
from tests.kit.rig_jobs import command_job

TASKS: Final = 10_000
REVISIONS: Final = 4
GATEWAYS: Final = 8
ROUNDS: Final = 3
BATCH: Final = 1_000


def ask(rounds: int = ROUNDS) -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory() as folder, PostgresServer(durable=True) as postgres:
        for kind in ("SQLite", "PostgreSQL"):
            ours, raw, broker = [], [], []
            for number in range(rounds):
                place = Path(folder) / f"{kind}-{number}"
                place.mkdir()
                url = postgres.create_database() if kind == "PostgreSQL" else None
                with programs_in(place) as programs:
                    rate, messages = reports_a_second(place / "rig", programs, url)
                ours.append(rate)
                raw_url = (
                    postgres.create_database()
                    if kind == "PostgreSQL"
                    else f"sqlite:///{place / 'raw.db'}"
                )
                raw.append(raw_rows_a_second(raw_url))
                with programs_in(place / "broker") as programs:
                    broker.append(raw_messages_a_second(place / "raw", programs, messages))
            figures.append(
                Figure(f"reports made durable, {kind}", "reports/s", ours, "raw batches", raw)
            )
            figures.append(
                Figure(f"the same, {kind}", "reports/s", ours, "the messages, broker alone", broker)
            )
    return figures


def reports_a_second(
    folder: Path, programs: Programs, database: str | None
) -> tuple[float, list[bytes]]:
    """Reports stored in a second, from the first one sent to the last receipt."""
    made = gateways(GATEWAYS, TASKS)
    with Rig(folder, programs, "nats", database, {"limits": {"heartbeat": "10s"}}) as rig:
        for gateway in made:
            rig.client.gateways.create(gateway.address.gateway)
        load = Load(rig.broker_port, made)
        try:
            load.hello()
            load.wait("sessions", lambda: all(gateway.session for gateway in made))
            run = rig.start(command_job(concurrency=TASKS, timeout="1h"))
            load.wait("offers", lambda: sum(len(gateway.offered) for gateway in made) == TASKS, 180)
            batches = {
                gateway.address: [
                    snapshot(task, attempt, revision, REVISIONS)
                    for revision in range(1, REVISIONS + 1)
                    for task, attempt in gateway.offered.items()
                ]
                for gateway in made
            }
            messages = _messages(list(batches.values()))
            began = time.perf_counter()
            load.send(batches)
            load.wait("receipts", lambda: load.stored + load.refused >= TASKS * REVISIONS, 300)
            seconds = time.perf_counter() - began
            assert load.refused == 0, f"{load.refused} refused"
            rig.client.runs.wait(run, timeout=timedelta(hours=1))
        finally:
            load.close()
    return TASKS * REVISIONS / seconds, messages


def _messages(batches: Sequence[Sequence[TaskSnapshot]]) -> list[bytes]:
    return [
        encode(Report(session="s", tasks=list(batch[i : i + MAX_BATCH])))
        for batch in batches
        for i in range(0, len(batch), MAX_BATCH)
    ]


_TASK: Final = text(
    "UPDATE tasks SET status = 'running', revision = :revision, progress = :revision, "
    "current_step = 'set' WHERE run = 'r' AND ordinal = :ordinal"
)
_ATTEMPT: Final = text(
    "UPDATE attempts SET revision = :revision, snapshot = :snapshot "
    "WHERE run = 'r' AND ordinal = :ordinal AND attempt = 1"
)


def raw_rows_a_second(url: str) -> float:
    """Both rows of a report, written in batches by nobody but the database's own driver."""
    database = open_database(url)
    try:
        SQLModel.metadata.create_all(database.engine)
        tables = SQLModel.metadata.tables
        tasks = tables[str(schema.TaskRow.__tablename__)]
        attempts = tables[str(schema.AttemptRow.__tablename__)]
        with database.engine.begin() as connection:
            rows = [
                {"run": "r", "ordinal": n, "org": "o", "status": "offered", "attempt": 1}
                for n in range(TASKS)
            ]
            defaults = {
                "gateway": "g", "journal": "j", "offered_at": 0, "due_at": 0, "priority": 1,
                "tries": 0, "attempts": 1, "revision": 0, "begun": False, "progress": 0,
            }  # fmt: skip
            for table in (tasks, attempts):
                known = set(table.c.keys())
                connection.execute(
                    table.insert(),
                    [{k: v for k, v in {**defaults, **row}.items() if k in known} for row in rows],
                )
        bodies = [
            snapshot("r-1", 1, r, REVISIONS).model_dump_json() for r in range(1, REVISIONS + 1)
        ]
        began = time.perf_counter()
        for revision, body in enumerate(bodies, 1):
            for start in range(0, TASKS, BATCH):
                rows = [
                    {"ordinal": n, "revision": revision, "snapshot": body}
                    for n in range(start, start + BATCH)
                ]
                with database.engine.begin() as connection:
                    connection.execute(_TASK, rows)
                    connection.execute(_ATTEMPT, rows)
        return TASKS * REVISIONS / (time.perf_counter() - began)
    finally:
        database.close()


def raw_messages_a_second(folder: Path, programs: Programs, messages: Sequence[bytes]) -> float:
    """The same messages to a subscriber that only counts, as reports a second."""
    from tests.kit.brokers import Nats

    folder.mkdir(parents=True, exist_ok=True)
    broker = Nats(folder)
    broker.start()
    try:
        heard = 0

        def count(*_: object) -> None:
            nonlocal heard
            heard += 1

        clients = [paho.Client(CallbackAPIVersion.VERSION2, client_id=f"raw-{n}") for n in (1, 2)]
        for client in clients:
            client.max_inflight_messages_set(100)
            client.connect("127.0.0.1", broker.port)
            client.loop_start()
        clients[1].on_message = count
        clients[1].subscribe("raw", qos=1)
        time.sleep(0.3)
        began = time.perf_counter()
        for message in messages:
            clients[0].publish("raw", message, qos=1)
        while heard < len(messages):
            time.sleep(0.002)
        seconds = time.perf_counter() - began
        for client in clients:
            client.disconnect()
            client.loop_stop()
        return len(messages) * MAX_BATCH / seconds
    finally:
        broker.close()
