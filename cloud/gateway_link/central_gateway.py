"""The central gateway: a gateway process beside the cloud, for tasks without a device."""

import asyncio
import ctypes
import json
import os
import random
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Never

import structlog
from pydantic import JsonValue

from cloud.coordinator import gateways
from cloud.errors import StorageFull, StorageUnavailable
from cloud.storage.database import Database
from contract.ids import CENTRAL, DEFAULT_ORG

log = structlog.get_logger()

STOP_TIMEOUT_S: Final = 3.0
MAX_BACKOFF_S: Final = 30.0
LASTED_S: Final = 60.0
# Another cloud of the same database runs it: look again now and then whether it still does.
LOOK_AGAIN_S: Final = 30.0
_SET_PARENT_DEATH_SIGNAL: Final = 1  # prctl(2)


class CentralGateway:
    """Started by `run`, which starts it again whenever it ends, and ends it when cancelled.

    `settings` go over the configuration that is written for it at every start.
    """

    def __init__(
        self,
        folder: Path,
        database: Database,
        cloud: Mapping[str, JsonValue],
        logs: Mapping[str, JsonValue],
        settings: Mapping[str, JsonValue],
        clock: Callable[[], int],
        new_secret: Callable[[], str],
    ) -> None:
        self._folder = folder
        self._database = database
        self._cloud = dict(cloud)
        self._logs = dict(logs)
        self._settings = dict(settings)
        self._clock = clock
        self._new_secret = new_secret
        self._process: asyncio.subprocess.Process | None = None

    async def run(self) -> Never:
        failures = 0
        loop = asyncio.get_running_loop()
        try:
            while True:
                if not await self._is_ours():
                    await asyncio.sleep(LOOK_AGAIN_S)
                    continue
                began = loop.time()
                process = await self._start()
                code = await process.wait()
                failures = 1 if loop.time() - began > LASTED_S else failures + 1
                log.error("central gateway ended, starting it again", exit_code=code)
                longest = min(MAX_BACKOFF_S, 0.5 * 2.0**failures)
                await asyncio.sleep(random.uniform(longest / 2, longest))
        finally:
            await self._stop()

    async def _is_ours(self) -> bool:
        token = self._token()
        try:
            ours = await self._database.run(gateways.ensure_central, token, self._clock())
        except (StorageFull, StorageUnavailable) as error:
            log.warning("central gateway not started", reason=str(error))
            return False
        if not ours:
            log.info("another process is the central gateway")
        return ours

    def _token(self) -> str:
        """The token of its first start, kept for us and it alone."""
        kept = self._folder / "token"
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileNotFoundError):
            return kept.read_text().strip()
        _write(kept, self._new_secret())
        return kept.read_text().strip()

    async def _start(self) -> asyncio.subprocess.Process:
        config: dict[str, Any] = {
            "org": DEFAULT_ORG,
            "gateway": CENTRAL,
            "data_dir": str((self._folder / "data").absolute()),
            "cloud": {**self._cloud, "token_file": str((self._folder / "token").absolute())},
            "log": self._logs,
        }
        path = self._folder / "gateway.json"
        _write(path, json.dumps(_over(config, self._settings), indent=1))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ROUNDSMAN_")}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", str(path),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            env=environment,
            # Ctrl-C reaches the whole foreground group: it ends when we say, with us at the latest.
            start_new_session=True, preexec_fn=_ending_with_us(),
        )  # fmt: skip
        log.info("central gateway started", process=self._process.pid)
        return self._process

    async def _stop(self) -> None:
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


def _ending_with_us() -> Callable[[], None] | None:
    """What the child does first: ask for a signal should we be killed. Linux alone offers it.

    Elsewhere what is left behind holds its journal's lock, and we try until it has ended.
    """
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def ask() -> None:
        prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return ask


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _over(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _write(path: Path, text: str) -> None:
    """Write a file that only we can read, whole or not at all."""
    beside = path.with_name(f"{path.name}.new")
    beside.unlink(missing_ok=True)
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{text}\n")
    beside.replace(path)
