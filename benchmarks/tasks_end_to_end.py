"""How many tasks a second go from the offer to the durable result, with everything on this machine?

Cloud (SQLite), gateways, simulated MQTT devices on the gateways' own brokers, and the broker
between them; a task has five steps, two of them commands that its device answers. Larger fleets
are asked about in cost_per_task.py. The reference is the bare round trip of the same two commands
through the same kind of broker, between two clients that do nothing else.
"""

import socket
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as paho
import psutil
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.answers import Figure
from contract.lifecycle import RunStatus
from tests.kit.brokers import Nats
from tests.kit.processes import Programs, programs_in
from tests.kit.rig import Rig
from tests.kit.rig_jobs import ask as command
from tests.kit.rig_jobs import command_job

SIZES: Final = (100, 1_000)
GATEWAYS: Final = 2
ROUNDS: Final = 3
IN_FLIGHT: Final = 500
COMMANDS: Final = 2
WINDOW: Final = 100
ROUND_TRIPS: Final = 10_000
DEADLINE_S: Final = 600.0

STEPS: Final = [
    command("version", "before"),
    {"id": "set", "uses": "flow.set", "with": {"values": {"old": "{{ steps.before.result }}"}}},
    command("echo", "echo", text="hello"),
    {"id": "check", "uses": "flow.check", "with": {"that": "steps.before.result is defined"}},
    {"id": "note", "uses": "flow.log", "with": {"text": "done"}},
]


def ask(rounds: int = ROUNDS) -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with programs_in(place / "raw") as _:
            raw = [round_trips_a_second(place / f"raw-{n}") / COMMANDS for n in range(rounds)]
        for size in SIZES:
            with programs_in(place / str(size)) as programs:
                rates, memory = tasks_a_second(place / f"rig-{size}", programs, size, rounds)
            figures += [
                Figure(f"tasks end to end, {size:,} devices", "tasks/s", rates, "bare trips", raw),
                Figure("cost of a task", "ms", [1000 / rate for rate in rates]),
                Figure("memory of one gateway after it", "MB", [memory]),
            ]
    return figures


def tasks_a_second(
    folder: Path, programs: Programs, devices: int, rounds: int
) -> tuple[list[float], float]:
    """Tasks a second of each of `rounds` runs over all devices, and a gateway's memory in MB."""
    with Rig(folder, programs, "nats", settings={"limits": {"heartbeat": "10s"}}) as rig:
        each = devices // GATEWAYS
        for number in range(GATEWAYS):
            group = {"personality": "mqtt", "id": f"device-{number}", "count": each}
            rig.add_gateway(f"gateway-{number}", [group])
        job = command_job("bench", STEPS, concurrency=min(devices, IN_FLIGHT), timeout="10m")
        rates = []
        run = rig.start(job)
        for number in range(rounds + 1):
            if number:
                run = rig.client.jobs.run("bench").id
            ended = rig.finish(run, RunStatus.SUCCEEDED, DEADLINE_S) if number == 0 else None
            ended = ended or rig.client.runs.wait(run, timeout=timedelta(hours=1))
            assert ended.status is RunStatus.SUCCEEDED, rig.describe(run)
            if number:  # the first one only warms up
                rates.append(1000 * ended.counts.total / ended.duration_ms)
        pid = rig.sites["gateway-0"].program.pid
        memory = psutil.Process(pid).memory_info().rss / 1e6
    return rates, memory


def round_trips_a_second(folder: Path, window: int = WINDOW, trips: int = ROUND_TRIPS) -> float:
    """Request and reply of the same size as a command's, `window` at a time."""
    folder.mkdir(parents=True)
    broker = Nats(folder)
    broker.start()
    try:
        heard = 0
        request = b'{"id": "0123456789abcdef", "command": "version"}'
        reply = b'{"id": "0123456789abcdef", "ok": true, "result": {"version": "2.4.1"}}'
        asking, answering = (
            paho.Client(CallbackAPIVersion.VERSION2, client_id=name) for name in ("a", "b")
        )

        def answer(client: paho.Client, *_: object) -> None:
            client.publish("reply", reply, qos=1)

        def count(client: paho.Client, *_: object) -> None:
            nonlocal heard
            heard += 1
            if heard + window <= trips:
                client.publish("request", request, qos=1)

        answering.on_message, asking.on_message = answer, count
        for client, topic in ((answering, "request"), (asking, "reply")):
            client.max_inflight_messages_set(2 * window)
            client.on_socket_open = _at_once
            client.connect("127.0.0.1", broker.port)
            client.loop_start()
            client.subscribe(topic, qos=1)
        time.sleep(0.3)
        began = time.perf_counter()
        for _ in range(window):
            asking.publish("request", request, qos=1)
        while heard < trips:
            time.sleep(0.002)
        seconds = time.perf_counter() - began
        for client in (asking, answering):
            client.disconnect()
            client.loop_stop()
        return trips / seconds
    finally:
        broker.close()


def _at_once(_: paho.Client, __: object, connection: Any) -> None:
    """Paho leaves Nagle on, which would make a slow reference of one trip at a time."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
