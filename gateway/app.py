"""Builds the gateway and runs it: the one place that reads clocks, chance and new ids."""

import asyncio
import contextlib
import random
import resource
import secrets
import signal
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import structlog
from pydantic import JsonValue

from contract.ids import GatewayId, OrgId
from contract.messages import ArtifactRef, CancelItem, InventoryDevice, Receipt
from contract.topics import Address
from gateway.actions.base import FetchedArtifact
from gateway.actions.registry import ACTIONS, VERBS
from gateway.artifacts.cache import ArtifactCache
from gateway.artifacts.download import Download
from gateway.artifacts.serve import ArtifactServer
from gateway.cloud_link.link import CloudLink
from gateway.cloud_link.receiver import Listeners, Receiver
from gateway.cloud_link.sender import Sender
from gateway.cloud_link.session import BrokerAddress, MqttConnector
from gateway.cloud_link.wire import LinkState
from gateway.domain.facts import Instant
from gateway.domain.profiles import Profile
from gateway.domain.retention import Keeping, Stream
from gateway.drivers.base import Driver, OnDeviceLog, OnProgress
from gateway.drivers.registry import Surroundings, bus_of, make_driver
from gateway.errors import CloudRefused, SettingsInvalid, StorageFull
from gateway.journal import keeping, meta
from gateway.journal.database import Database, open_database
from gateway.runner.buses import Buses
from gateway.runner.devices import Device, DeviceHandle
from gateway.runner.supervisor import Supervisor
from gateway.runner.worker import Shop
from gateway.settings import (
    AnyDevice,
    MqttDevice,
    Settings,
    SmpDevice,
    broker_at,
    host_and_port,
    read_profiles,
)
from gateway.transports.local_broker import LocalBroker
from gateway.transports.mqtt import MqttTransport

STOP_WITHIN_S: Final = 1.5
PRUNE_EVERY_S: Final = 60.0
DEVICE_FIELDS: Final = frozenset(
    {"id", "type", "name", "driver", "tags", "attributes", "patience", "sleepy"}
)

log = structlog.get_logger()


def now() -> Instant:
    """This moment."""
    return Instant(max(time.time_ns() // 1_000_000, 0), time.monotonic_ns() // 1_000_000)


class CachedArtifacts:
    """The cache as steps see it: a verified file, and where devices may fetch it."""

    def __init__(self, cache: ArtifactCache, url_for: Callable[[str], str]) -> None:
        self._cache = cache
        self._url_for = url_for

    async def fetch(
        self, ref: ArtifactRef, on_progress: OnProgress, holder: str
    ) -> FetchedArtifact:
        path = await self._cache.fetch(ref.sha256, ref.size, on_progress, holder)
        return FetchedArtifact(str(path), ref.sha256, ref.size, self._url_for(ref.sha256))

    def release(self, holder: str) -> None:
        self._cache.release(holder)


class Gateway:
    """A gateway ready to run; made by `run`, when everything it needs is open."""

    def __init__(
        self,
        settings: Settings,
        journal: Database,
        identity: meta.Identity,
        devices: Sequence[Device],
        artifacts: CachedArtifacts,
        broker: BrokerAddress,
    ) -> None:
        address = Address(OrgId(settings.org), GatewayId(settings.gateway))
        self._journal = journal
        self._gateway_id = settings.gateway
        self._buses = Buses()
        self._handles = {d.id: DeviceHandle(d, self._buses, now) for d in devices}
        self.state = LinkState(address, identity.journal, secrets.token_hex(8))
        self._sender = Sender(journal, self.state, lambda: now().mono, self._health)
        self.supervisor = Supervisor(
            Shop(
                journal=journal,
                actions=ACTIONS,
                artifacts=artifacts,
                buses=self._buses,
                clock=now,
                gateway={"id": settings.gateway, "org": settings.org},
                boot=identity.boot,
                may_begin=lambda: self.state.may_begin_work,
                stream=self._stream,
                on_unsent=self._sender.wake,
            ),
            self._handles,
        )
        listeners = Listeners(
            on_work=self._on_work,
            on_cancel=self._on_cancel,
            on_receipt=self._on_receipt,
            on_unsent=self._sender.wake,
            on_session=self._sender.forget_flights,
        )
        receiver = Receiver(journal, self.state, listeners, identity.boot, now)
        self.link = CloudLink(
            connector=MqttConnector(broker, address, self.state.instance, self._on_refused),
            journal=journal,
            state=self.state,
            receiver=receiver,
            sender=self._sender,
            inventory=self._inventory,
            version=version_of_ours(),
            verbs=VERBS,
            clock=now,
            chance=random.random,
            new_nonce=lambda: secrets.token_hex(8),
        )

    async def tidy(self) -> None:
        """Bury what has had its time, as long as this runs."""
        while True:
            limits = self.state.limits
            kept = Keeping(limits.keep_ended, limits.keep_tombstones)
            try:
                found = await self._journal.run_unsynced(keeping.prune, kept, now().wall)
            except StorageFull as error:
                log.error("disk full", why=str(error))
            else:
                if found.buried or found.gone:
                    log.info("tidied", buried=found.buried, gone=found.gone)
                    continue
            await asyncio.sleep(PRUNE_EVERY_S)

    def _stream(self) -> Stream:
        return "live" if self.state.session is not None else "backlog"

    def _inventory(self) -> list[InventoryDevice]:
        return [handle.inventory() for handle in self._handles.values()]

    def _health(self) -> dict[str, JsonValue]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "storage_full": self._journal.is_full,
            "alarm": self.state.alarm,
            "dropped_messages": dict(self.state.dropped),
            "max_rss_kib": usage.ru_maxrss,
            "devices_down": sum(h.link.status == "down" for h in self._handles.values()),
        }

    def _on_work(self, lanes: Iterable[str]) -> None:
        self.supervisor.wake(lanes)

    def _on_cancel(self, items: list[tuple[str, CancelItem]]) -> None:
        self.supervisor.cancel(items)

    def _on_receipt(self, receipt: Receipt) -> None:
        self._sender.take_receipt(receipt)

    def _on_refused(self, reason: str) -> None:
        self.state.alarm = f"the broker refuses what we publish: {reason}"
        log.error("publish refused by the broker", reason=reason)


def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises SettingsInvalid; at the first connect CloudRefused."""
    profiles = read_profiles(settings)
    token = settings.token()
    tls = cloud_tls(settings)
    with _journal(settings.data_dir) as (journal, identity):
        main = _main(settings, profiles, token, tls, journal, identity)
        # asyncio.Runner would wait for the thread of a connect that is under way.
        _new_loop().run_until_complete(main)


async def _main(
    settings: Settings,
    profiles: dict[str, Profile],
    token: str | None,
    tls: ssl.SSLContext | None,
    journal: Database,
    identity: meta.Identity,
) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        messages = await _local_messages(settings, stack)
        surroundings = Surroundings(
            messages, profiles, lambda: random.randrange(256), lambda: secrets.token_hex(6)
        )
        server, cache = await _artifacts(settings, token, stack)
        devices = [_device(d, surroundings) for d in settings.devices]
        gateway = Gateway(
            settings,
            journal,
            identity,
            devices,
            CachedArtifacts(cache, server.url_for),
            _broker(settings, token, tls),
        )
        log.info(
            "gateway started",
            gateway=gateway.state.address.name,
            journal=identity.journal,
            boot=identity.boot,
            devices=len(devices),
        )
        await _serve(gateway, messages, stopping)
    log.info("gateway ended")


async def _serve(gateway: Gateway, messages: MqttTransport | None, stopping: asyncio.Event) -> None:
    refused: CloudRefused | None = None
    try:
        async with asyncio.TaskGroup() as loops:
            running = [
                loops.create_task(gateway.supervisor.run(), name="runner.supervisor"),
                loops.create_task(gateway.link.run(), name="cloud_link"),
                loops.create_task(gateway.tidy(), name="journal.keeping"),
            ]
            if messages is not None:
                running.append(loops.create_task(messages.run(), name="transports.mqtt"))
            await stopping.wait()
            log.info("stopping")
            await gateway.supervisor.stop(STOP_WITHIN_S)
            for task in running:
                task.cancel()
    except* CloudRefused as group:
        refused = _first_refusal(group)
    if refused is not None:
        raise refused


def _first_refusal(group: BaseExceptionGroup[CloudRefused]) -> CloudRefused:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, CloudRefused)
    return found


async def _local_messages(settings: Settings, stack: AsyncExitStack) -> MqttTransport | None:
    """The connection to the local broker, which is started first where it is ours."""
    local = settings.local_broker
    if local is None:
        if any(isinstance(device, MqttDevice) for device in settings.devices):
            raise SettingsInvalid("local_broker: MQTT devices need one; add `local_broker: {}`")
        return None
    if local.url is not None:
        host, port, _ = broker_at(local.url)
    else:
        host, port = host_and_port(local.listen)
        folder = (settings.data_dir / "local-broker").absolute()
        await stack.enter_async_context(LocalBroker(folder, host, port, chance=random.random))
    client_id = f"roundsman-{settings.org}-{settings.gateway}"
    return MqttTransport(
        "127.0.0.1" if host in ("0.0.0.0", "::") else host,
        port,
        client_id,
        chance=random.random,
        username=local.username,
        password=local.password,
    )


async def _artifacts(
    settings: Settings, token: str | None, stack: AsyncExitStack
) -> tuple[ArtifactServer, ArtifactCache]:
    download = Download(
        settings.cloud.url,
        lambda: f"Bearer {token}" if token else None,
        random.random,
        _http_tls(settings),
    )
    folder = settings.data_dir / "artifacts"
    cache = ArtifactCache(folder, download, settings.artifacts.max_bytes)
    host, port = host_and_port(settings.artifacts.listen)
    server = ArtifactServer(cache.find, host, port, settings.artifacts.advertise)
    await stack.enter_async_context(server)
    return server, cache


def _device(device: AnyDevice, surroundings: Surroundings) -> Device:
    options = device.model_dump(exclude=set(DEVICE_FIELDS))

    def make(on_log: OnDeviceLog) -> Driver:
        return make_driver(device.driver, device.id, options, surroundings, on_log)

    make(lambda text: None)  # what is wrong with its options is said at the start
    address = device.port if isinstance(device, SmpDevice) else f"profile {device.profile}"
    return Device(
        id=device.id,
        make_driver=make,
        type=device.type,
        name=device.name,
        driver=device.driver,
        address=address,
        bus=bus_of(device.driver, device.id, options),
        tags=device.tags,
        attributes=device.attributes,
        patience_ms=None if device.sleepy else round(device.patience.total_seconds() * 1000),
    )


def _broker(settings: Settings, token: str | None, tls: ssl.SSLContext | None) -> BrokerAddress:
    host, port, _ = broker_at(settings.cloud.mqtt)
    return BrokerAddress(host, port, token, tls, settings.cloud.mqtt_version)


def cloud_tls(settings: Settings) -> ssl.SSLContext | None:
    """The TLS of the broker's connection. Raises SettingsInvalid when a file cannot be used."""
    *_, has_tls = broker_at(settings.cloud.mqtt)
    return _tls(settings) if has_tls else None


def _http_tls(settings: Settings) -> ssl.SSLContext | None:
    return _tls(settings) if settings.cloud.url.startswith("https:") else None


def _tls(settings: Settings) -> ssl.SSLContext:
    files = settings.cloud.tls
    try:
        context = ssl.create_default_context(
            cafile=None if files.authority is None else str(files.authority)
        )
        if files.certificate is not None and files.key is not None:
            context.load_cert_chain(files.certificate, files.key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsInvalid(f"cloud.tls: {error}") from error
    return context


@contextmanager
def _journal(folder: Path) -> Iterator[tuple[Database, meta.Identity]]:
    journal = open_database(folder)
    try:
        yield journal, journal.run_now(meta.begin, secrets.token_hex(16))
    finally:
        journal.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    with contextlib.suppress(ImportError):
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return loop
    return asyncio.new_event_loop()


def version_of_ours() -> str:
    try:
        return version("roundsman")
    except PackageNotFoundError:
        return "0"
