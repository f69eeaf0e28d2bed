"""Builds the cloud, opens it in order, runs its loops, and closes it in order.

Nothing else reads the clock, makes ids or secrets, or starts tasks that outlive a request.
"""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import structlog
import uuid_utils
import uvicorn
from fastapi import FastAPI
from pydantic import JsonValue
from starlette.types import ASGIApp

from cloud.api import routes as api
from cloud.api.requests import Requests
from cloud.artifacts.disk import DiskStore
from cloud.console import routes as console
from cloud.coordinator import instance
from cloud.coordinator.changes import Changes
from cloud.coordinator.live import RunFeeds
from cloud.coordinator.loops import Keeping, Loops
from cloud.coordinator.operating import Operator
from cloud.coordinator.secrets import Vault, new_key
from cloud.coordinator.services import DoorLimits, Services
from cloud.data_dir import hold_data_dir
from cloud.errors import SettingsInvalid
from cloud.gateway_link.central_gateway import CentralGateway
from cloud.gateway_link.embedded_broker import HOST as BROKER_HOST
from cloud.gateway_link.embedded_broker import EmbeddedBroker
from cloud.gateway_link.in_hand import InHand
from cloud.gateway_link.postman import Postman
from cloud.gateway_link.profile_sender import ProfileSender
from cloud.gateway_link.receiver import Receiver
from cloud.gateway_link.sender import Sender
from cloud.gateway_link.session import BrokerAddress, BrokerSession
from cloud.settings import BrokerSettings, CloudSettings
from cloud.storage.database import Database, open_database
from contract import plugins
from contract.messages import Limits
from contract.steps import load_verbs

log = structlog.get_logger()

# What a door adds to the application: its routes, its static files.
DOORS: Final[tuple[Callable[[FastAPI], None], ...]] = (api.install, console.install)
STOP_S: Final = 2


def clock() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def new_id() -> str:
    return str(uuid_utils.uuid7())


def new_secret() -> str:
    return f"rm_{secrets.token_urlsafe(32)}"


def build_web(services: Services) -> FastAPI:
    """The application that answers HTTP: every door, around them what all requests need."""
    app = _Web(
        title="Roundsman",
        version=services.version,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = services
    for install in DOORS:
        install(app)
    return app


class _Web(FastAPI):
    """Has the middleware of requests outside of all others, the one for mistakes too."""

    def build_middleware_stack(self) -> ASGIApp:
        return Requests(super().build_middleware_stack(), self.state.services.new_id)


async def run_cloud(settings: CloudSettings, token_file: Path | None = None) -> None:
    """Run until SIGTERM or SIGINT. Raises SettingsInvalid and BrokerRefused."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    for problem in load_verbs(entry_points(group=plugins.STEPS)):
        log.error("plug-in cannot be used", why=problem)
    async with AsyncExitStack() as stack:
        stack.enter_context(_data_dir(settings.data_dir))
        listener = stack.enter_context(_listen(settings))
        database = stack.enter_context(_database(settings))
        await database.prepare()
        await _first_start(database, token_file)
        artifacts = DiskStore(settings.data_dir / "artifacts")
        artifacts.prepare()
        embedded = await _start_broker(settings)
        if embedded is not None:
            stack.push_async_callback(embedded.stop)
        await _Cloud(settings, database, artifacts, listener, embedded).run(stop)
    log.info("stopped")


class _Cloud:
    """Everything that runs, made in one place."""

    def __init__(
        self,
        settings: CloudSettings,
        database: Database,
        artifacts: DiskStore,
        listener: socket.socket,
        embedded: EmbeddedBroker | None,
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._embedded = embedded
        limits = settings.limits
        self._changes = Changes()
        self._feeds = RunFeeds(
            database, self._changes, clock, secrets.token_hex(4), limits.max_listeners
        )
        self._broker_address = broker_address(settings.broker, embedded)
        self._session = BrokerSession(
            self._broker_address,
            settings.broker.username or f"coordinator-{secrets.token_hex(4)}",
            self._deliver,
            on_open=self._on_open,
        )
        self._postman = Postman(self._session.publish, clock)
        vault = Vault(_secrets_key(settings))
        self._sender = Sender(
            database,
            self._postman,
            clock,
            lambda: self._session.is_open,
            self._feeds.touch_tasks,
            secrets=vault.of_runs,
        )
        self._profiles = ProfileSender(
            database, self._postman, clock, lambda: self._session.is_open
        )
        self._receiver = Receiver(
            database,
            self._postman,
            self._changes,
            clock,
            new_id,
            limits=Limits(heartbeat=limits.heartbeat // timedelta(milliseconds=1)),
            on_stored=self._feeds.touch_tasks,
            in_hand=InHand(settings.data_dir),
            vault=vault,
        )
        self._changes.on_sending(self._sender.wake)
        self._loops = Loops(
            database, self._changes, clock, new_id, _holder(settings.data_dir),
            address=self._address,
            operator=Operator(database, artifacts, settings.data_dir / "operations"),
            keeping=Keeping(
                samples_ms=settings.state.keep // timedelta(milliseconds=1),
                samples=settings.state.max_samples,
            ),
        )  # fmt: skip
        self._opened = asyncio.Event()
        self.services = Services(
            database=database,
            artifacts=artifacts,
            changes=self._changes,
            feeds=self._feeds,
            clock=clock,
            new_id=new_id,
            address=self._address,
            new_secret=new_secret,
            not_ready=self._not_ready,
            vault=vault,
            limits=DoorLimits(
                max_artifact_bytes=limits.max_artifact_bytes,
                max_body_bytes=limits.max_body_bytes,
                session_lasts=limits.session_lasts,
            ),
            version=product_version(),
            has_secure_cookies=settings.has_secure_cookies,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Run every loop until `stop`, then end them: first what listens, the broker last."""
        server = _Server(
            uvicorn.Config(
                build_web(self.services),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=STOP_S,
                timeout_keep_alive=30,
            )
        )
        async with asyncio.TaskGroup() as loops:
            web = loops.create_task(server.serve([self._listener]), name="http")
            running = [
                loops.create_task(loop, name=name)
                for name, loop in {
                    "gateway_link.session": self._session.run(),
                    "gateway_link.receiver": self._receiver.run(),
                    "gateway_link.calls": self._receiver.serve_calls(),
                    "gateway_link.sender": self._sender.run(),
                    "gateway_link.postman": self._postman.run(),
                    "gateway_link.profiles": self._profiles.run(),
                    "coordinator.loops": self._loops.run(),
                    "coordinator.live": self._feeds.run(),
                    "announce": self._announce(),
                }.items()
            ]
            if self._settings.central_gateway.enabled:
                running.append(loops.create_task(self._run_central(), name="central_gateway"))
            if self._embedded is not None:
                running.append(loops.create_task(self._embedded.run(), name="embedded_broker"))
            await stop.wait()
            log.info("stopping")
            self.services.stopping.set()
            self._changes.touched(runs={"every"})  # whoever listens looks, and sees that we stop
            self._feeds.close()
            server.should_exit = True
            await web
            await _end(running)

    async def _run_central(self) -> None:
        """Once gateways can be heard: it would only find a closed door before."""
        await self._opened.wait()
        settings = self._settings
        broker, is_tls = self._broker_address, self._broker_address.tls is not None
        cloud: dict[str, JsonValue] = {
            "url": _url_from_here(self._listener),
            "mqtt": f"{'mqtts' if is_tls else 'mqtt'}://{broker.host}:{broker.port}",
        }
        authority = settings.broker.tls.authority
        if is_tls and authority is not None:
            cloud["tls"] = {"authority": str(authority.absolute())}
        await CentralGateway(
            settings.data_dir / "central-gateway",
            self.services.database,
            cloud,
            {"level": settings.log.level, "format": settings.log.format},
            settings.central_gateway.settings,
            clock,
            new_secret,
        ).run()

    def _deliver(self, topic: str, payload: bytes) -> None:
        self._receiver.deliver(topic, payload)

    def _on_open(self) -> None:
        self._opened.set()
        self._loops.start_listening()
        self._receiver.broker_opened()
        self._sender.wake()

    def _not_ready(self) -> list[str]:
        if self._session.is_open:
            return []
        return [f"no session with the broker {self._broker_address}"]

    def _address(self) -> str:
        """Where we are reached; known once we listen."""
        return (self._settings.http.public_url or _url_of(self._listener)).rstrip("/")

    async def _announce(self) -> None:
        """Say where we are, once the broker has let us in: scripts and people wait for this."""
        await self._opened.wait()
        url = self._address()
        runtime = {"url": url, "broker": str(self._broker_address), "process": os.getpid()}
        _write_whole(self._settings.data_dir / "runtime.json", json.dumps(runtime) + "\n", 0o644)
        _say(f"roundsman cloud is ready at {url} (broker {self._broker_address})")


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own: we end event streams first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def product_version() -> str:
    try:
        return version("roundsman")
    except PackageNotFoundError:
        return "0"


def broker_address(settings: BrokerSettings, embedded: EmbeddedBroker | None) -> BrokerAddress:
    """Where the broker is. Raises SettingsInvalid for certificates that cannot be used."""
    if embedded is not None:
        return BrokerAddress(BROKER_HOST, embedded.port)
    parts = urlsplit(settings.url or "")
    is_tls = parts.scheme == "mqtts"
    return BrokerAddress(
        host=parts.hostname or "",
        port=parts.port or (8883 if is_tls else 1883),
        username=settings.username,
        password=settings.password.get_secret_value() if settings.password else None,
        tls=_tls_context(settings) if is_tls else None,
    )


def _tls_context(settings: BrokerSettings) -> ssl.SSLContext:
    tls = settings.tls
    try:
        context = ssl.create_default_context(cafile=tls.authority)
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsInvalid(f"broker.tls: {error}") from None
    return context


async def _start_broker(settings: CloudSettings) -> EmbeddedBroker | None:
    if settings.broker.url is not None:
        return None
    broker = EmbeddedBroker(settings.data_dir / "broker", settings.broker.embedded_port)
    await broker.start()
    return broker


async def _first_start(database: Database, token_file: Path | None) -> None:
    token = new_secret()
    if not await database.run(instance.first_start, clock(), token):
        return
    if token_file is not None:
        _write_whole(token_file, f"{token}\n", 0o600)
    _say(f"administrator token, shown only this once: {token}")


def _secrets_key(settings: CloudSettings) -> bytes:
    """The key that seals secrets: a file of its owner alone. Raises SettingsInvalid."""
    path = settings.secrets_key_file or settings.data_dir / "secrets.key"
    try:
        if settings.secrets_key_file is None and not path.exists():
            _write_whole(path, new_key(secrets.token_bytes(32)).decode(), 0o600)
        key = path.read_bytes().strip()
        Vault(key)
    except (OSError, ValueError) as error:
        raise SettingsInvalid(f"secrets_key_file: {path}: {error}") from None
    return key


def _holder(data_dir: Path) -> str:
    """This process's name in leases: the same after a restart, which then need not wait."""
    kept = data_dir / "holder"
    if not kept.exists():
        _write_whole(kept, new_id(), 0o600)
    return kept.read_text()


@contextlib.contextmanager
def _data_dir(folder: Path) -> Iterator[None]:
    """The folder, ours alone. Raises SettingsInvalid."""
    with hold_data_dir(folder):
        yield
        (folder / "runtime.json").unlink(missing_ok=True)


@contextlib.contextmanager
def _listen(settings: CloudSettings) -> Iterator[socket.socket]:
    http = settings.http
    try:
        family = socket.AF_INET6 if ":" in http.host else socket.AF_INET
        listener = socket.create_server((http.host, http.port), family=family, backlog=2048)
    except OSError as error:
        reason = f"cannot listen on {http.host}:{http.port}: {_reason(error)}"
        raise SettingsInvalid(f"http.port: {reason}") from None
    with listener:
        yield listener


@contextlib.contextmanager
def _database(settings: CloudSettings) -> Iterator[Database]:
    database = open_database(settings.database_url)
    try:
        yield database
    finally:
        database.close()


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)


async def _end(running: Collection[asyncio.Task[None]]) -> None:
    """Cancel until all have ended.

    Before Python 3.13 a task group that fails at that moment loses the cancel it is given.
    """
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=STOP_S)
        for task in running:
            log.warning("still ending", part=task.get_name())


def _url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _url_from_here(listener: socket.socket) -> str:
    """How a process of this machine reaches us, whatever we listen on."""
    host, port = listener.getsockname()[:2]
    here = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host)
    return f"http://{here}:{port}" if here else _url_of(listener)


def _write_whole(path: Path, text: str, mode: int) -> None:
    """Write a file that nobody sees half, or with other rights than these."""
    beside = path.with_name(f"{path.name}.new")
    beside.unlink(missing_ok=True)
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
    beside.replace(path)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
