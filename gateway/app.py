"""Builds the gateway and runs it: the one place that reads clocks, chance and new ids."""

import asyncio
import contextlib
import random
import resource
import secrets
import signal
import ssl
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from contract.ids import THIS_GATEWAY, GatewayId, OrgId
from contract.messages import ArtifactRef, InventoryDevice, WantedProfiles
from contract.topics import Address
from gateway import storage
from gateway.actions.base import Action, FetchedArtifact
from gateway.artifacts.cache import ArtifactCache
from gateway.artifacts.download import Download
from gateway.artifacts.profile_files import ProfileFiles
from gateway.artifacts.serve import ArtifactServer
from gateway.clock import OFF_MS, Clock
from gateway.cloud_link.calls import Calls
from gateway.cloud_link.link import CloudLink
from gateway.cloud_link.receiver import Listeners, Receiver
from gateway.cloud_link.sender import DEFAULT_BACKLOG_PER_S, Sender
from gateway.cloud_link.session import BrokerAddress, MqttConnector
from gateway.cloud_link.wire import Connector, LinkState
from gateway.deployed_profiles import Judge, ProfileKeeper
from gateway.device_settings import DeviceSettings, ProfilesRead, port_advice, read_profiles
from gateway.domain.facts import Instant
from gateway.domain.retention import Keeping, Stream
from gateway.drivers.base import Driver, OnDeviceLog, OnProgress, Surroundings
from gateway.drivers.this_gateway import ThisGatewayDriver
from gateway.errors import CloudRefused, DeviceUnreachable, SettingsInvalid, StorageFull
from gateway.journal import keeping, meta
from gateway.journal.database import Database
from gateway.logs import Log
from gateway.plugins import PlugIns
from gateway.runner.buses import Buses
from gateway.runner.collector import Collector
from gateway.runner.devices import Device, DeviceHandle
from gateway.runner.own_process import OwnProcess
from gateway.runner.reach import Artifacts, Outside
from gateway.runner.replies import Replies
from gateway.runner.supervisor import Supervisor
from gateway.runner.worker import Shop
from gateway.settings import Settings, broker_at, host_and_port
from gateway.transports.databases import Databases
from gateway.transports.local_broker import LocalBroker
from gateway.transports.mail import SmtpServer
from gateway.transports.mqtt import MqttTransport
from gateway.transports.web import Web

STOP_WITHIN_S: Final = 1.5
QUIET_WITHIN_S: Final = 30.0
CANCEL_AGAIN_S: Final = 2.0
PRUNE_EVERY_S: Final = 60.0

log = Log()


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


@dataclass(frozen=True)
class Chance:
    """Where what nobody can foresee comes from; tests bring their own."""

    clock: Callable[[], Instant]
    number: Callable[[], float]
    word: Callable[[], str]


class Gateway:
    """The parts of a gateway, connected; nothing runs yet."""

    def __init__(
        self,
        address: Address,
        journal: Database,
        identity: meta.Identity,
        devices: Sequence[Device],
        actions: Mapping[str, Action],
        artifacts: Artifacts,
        make_connector: Callable[[LinkState], Connector],
        chance: Chance,
        outside: Outside = Outside(),  # noqa: B008 (frozen)
        buses: Buses | None = None,
        profiles: ProfileKeeper | None = None,
        token: str | None = None,
        backlog_per_s: int = DEFAULT_BACKLOG_PER_S,
        itself: Device | None = None,
        process: OwnProcess | None = None,
    ) -> None:
        self._process = process
        self._profiles = profiles
        self._journal = journal
        clock = self._clock = Clock.of(chance.clock)
        buses = Buses() if buses is None else buses
        self._buses = buses
        self._handles = {d.id: DeviceHandle(d, buses, clock) for d in devices}
        own = {} if itself is None else {itself.id: DeviceHandle(itself, buses, clock)}
        self.state = LinkState(address, identity.journal, chance.word())
        self.calls = Calls(self.state, lambda: clock().mono)
        self.sender = Sender(
            journal,
            self.state,
            lambda: clock().mono,
            self._health,
            lambda: clock().wall,
            backlog_per_s,
        )
        self.supervisor = Supervisor(
            Shop(
                journal=journal,
                actions=actions,
                artifacts=artifacts,
                buses=buses,
                clock=clock,
                gateway={"id": address.gateway, "org": address.org},
                boot=identity.boot,
                devices={**self._handles, **own},
                may_begin=lambda: self.state.may_begin_work,
                stream=self._stream,
                on_unsent=self.sender.wake,
                outside=replace(outside, ask_cloud=self.calls.ask),
                replies=Replies(outside.messages),
            ),
            self._handles,
        )
        self.collector = Collector(
            self._handles,
            buses,
            journal,
            clock,
            self._stream,
            self.sender.wake,
            self.supervisor.is_at_work,
        )
        listeners = Listeners(
            on_work=self.supervisor.wake,
            on_cancel=self.supervisor.cancel,
            on_receipt=self.sender.take_receipt,
            on_unsent=self.sender.wake,
            on_session=self._session_opened,
            on_reply=self.calls.take_reply,
            on_profiles=self._profiles_wanted,
            on_time=self._time_told,
        )
        self.link = CloudLink(
            connector=make_connector(self.state),
            journal=journal,
            state=self.state,
            receiver=Receiver(journal, self.state, listeners, identity.boot, clock),
            sender=self.sender,
            calls=self.calls,
            inventory=self._inventory,
            version=version_of_ours(),
            verbs=list(actions),
            clock=clock,
            chance=chance.number,
            new_nonce=chance.word,
            profiles=None if profiles is None else profiles.held,
            token=token,
        )

    async def tidy(self) -> None:
        """Bury what has had its time, as long as this runs, and once that is sure."""
        while True:
            limits = self.state.limits
            kept = Keeping(limits.keep_ended, limits.keep_tombstones)
            if self._clock.is_to_be_confirmed:
                self.state.ask_for_hello()
            surely = self._clock.surely
            if surely is not None:
                # What fails is told by `watch_disk`.
                with contextlib.suppress(StorageFull):
                    found = await self._journal.run_unsynced(keeping.prune, kept, surely)
                    if found.buried or found.gone:
                        log.info("tidied", buried=found.buried, gone=found.gone)
                        continue
            await asyncio.sleep(PRUNE_EVERY_S)

    async def watch_disk(self) -> None:
        """Tell when the journal's disk fails, and go on once it works again."""
        await storage.watch(self._journal, self.sender.say_health)

    async def keep_profiles(self) -> None:
        """Hold the profiles that the cloud wants here, as long as this runs."""
        if self._profiles is not None:
            await self._profiles.run(self.sender.say_profiles, self._renew)

    def _profiles_wanted(self, wanted: WantedProfiles, opens: bool) -> None:
        if self._profiles is not None:
            self._profiles.take(wanted, opens)

    def _renew(self, devices: Sequence[str], is_other_news: bool) -> None:
        self.supervisor.renew(devices)
        if is_other_news:
            # Whether a device can be spoken with at all is told in the inventory.
            self.state.ask_for_hello()

    def _time_told(self, time: int, asked: int) -> int:
        self._clock.learn(time, asked)
        if ahead := self._clock.doubted_ms:
            log.error(
                "the cloud's clock is far ahead of all that is known here: nothing is deleted by it"
                " until another session tells the same",
                ahead_ms=ahead,
            )
            return 0
        off = self._clock.off_ms
        if abs(off) > OFF_MS:
            log.warning("the machine's clock is wrong: the cloud's time is used", off_ms=off)
        return time

    def _session_opened(self) -> None:
        self.sender.forget_flights()
        self.calls.say_again()
        if self._process is not None:
            self._process.welcomed()

    def _stream(self) -> Stream:
        return "live" if self.state.session is not None else "backlog"

    def _inventory(self) -> list[InventoryDevice]:
        return [handle.inventory() for handle in self._handles.values()]

    def _health(self) -> dict[str, JsonValue]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        trouble = self._journal.trouble
        return {
            "storage_full": trouble is not None and trouble.code == "full",
            "storage": None if trouble is None else trouble.text,
            "clock_off_ms": self._clock.off_ms,
            "cloud_clock_ahead_ms": self._clock.doubted_ms,
            "alarm": self.state.alarm,
            "dropped_messages": dict(self.state.dropped),
            "max_rss_kib": usage.ru_maxrss,
            "devices_down": sum(h.link.status == "down" for h in self._handles.values()),
            "lines_quarantined": self._buses.report(),
        }


def run(settings: Settings, plug_ins: PlugIns, new_journal: bool = False) -> bool:
    """Run until SIGTERM or SIGINT, or a task has it restart: True when it is to be started again.

    Raises SettingsInvalid; at the first connect CloudRefused.
    A damaged journal raises JournalDamaged, or with `new_journal` is moved aside.
    """
    profiles = read_profiles(
        settings.profiles, settings.devices, plug_ins.profiles, profiles_folder(settings)
    )
    for name, why in profiles.unusable.items():
        log.error("deployed profile cannot be used", profile=name, why=why)
    for why in profiles.missing.values():
        log.error("profile is missing", why=why)
    for problem in plug_ins.problems:
        log.error("plug-in cannot be used", why=problem)
    token = settings.token()
    tls = cloud_tls(settings)
    kept = settings.journal
    with storage.open_journal(
        settings.data_dir, secrets.token_hex(16), new_journal, kept.max_lines, kept.max_bytes
    ) as (journal, identity):
        main = _main(settings, plug_ins, profiles, token, tls, journal, identity)
        # asyncio.Runner would wait for the thread of a connect that is under way.
        return _new_loop().run_until_complete(main)


async def _main(
    settings: Settings,
    plug_ins: PlugIns,
    profiles: ProfilesRead,
    token: str | None,
    tls: ssl.SSLContext | None,
    journal: Database,
    identity: meta.Identity,
) -> bool:
    stopping = asyncio.Event()
    process = OwnProcess(identity.boot)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    clock = Clock(now, int(journal.run_now(meta.get, "time") or 0))
    async with AsyncExitStack() as stack:
        messages = await _local_messages(settings, stack)
        buses = Buses()
        surroundings = Surroundings(
            messages,
            profiles.found,
            lambda: random.randrange(256),
            lambda: secrets.token_hex(6),
            buses,
            journal=journal,
            clock=clock,
        )
        server, cache = await _artifacts(settings, token, stack)
        artifacts = CachedArtifacts(cache, server.url_for)
        keeper = ProfileKeeper(
            ProfileFiles(profiles_folder(settings)),
            artifacts,
            Judge(
                settings.devices,
                [settings.profiles, *plug_ins.profiles],
                plug_ins.drivers,
                surroundings,
            ),
            profiles.found,
            profiles.unusable,
        )
        devices = [_device(d, surroundings) for d in settings.devices]
        for advice in port_advice(settings.devices):
            log.warning("port may get another name", advice=advice)
        gateway = Gateway(
            Address(OrgId(settings.org), GatewayId(settings.gateway)),
            journal,
            identity,
            devices,
            plug_ins.actions,
            artifacts,
            lambda state: _connector(state, _broker(settings, token, tls)),
            Chance(clock, random.random, lambda: secrets.token_hex(8)),
            _outside(settings, messages),
            buses,
            keeper,
            token,
            settings.journal.backlog_per_s,
            _itself(settings, process, surroundings, journal),
            process,
        )
        log.info(
            "gateway started",
            gateway=gateway.state.address.name,
            journal=identity.journal,
            boot=identity.boot,
            devices=len(devices),
        )
        await _serve(gateway, messages, surroundings, stopping, process)
    log.info("gateway ended", to_be_started_again=process.is_ending)
    return process.is_ending


async def _serve(
    gateway: Gateway,
    messages: MqttTransport | None,
    surroundings: Surroundings,
    stopping: asyncio.Event,
    process: OwnProcess,
) -> None:
    refused: CloudRefused | None = None
    try:
        async with asyncio.TaskGroup() as loops:
            running = [
                loops.create_task(gateway.supervisor.run(), name="runner.supervisor"),
                loops.create_task(gateway.link.run(), name="cloud_link"),
                loops.create_task(gateway.tidy(), name="journal.keeping"),
                loops.create_task(gateway.keep_profiles(), name="profiles"),
                loops.create_task(gateway.watch_disk(), name="journal.disk"),
            ]
            if messages is not None:
                running.append(loops.create_task(messages.run(), name="transports.mqtt"))
            if gateway.collector.has_work:
                running.append(loops.create_task(gateway.collector.run(), name="runner.collector"))
            for name, loop in surroundings.loops.items():
                running.append(loops.create_task(loop(), name=f"drivers.{name}"))
            loops.create_task(_quieten(gateway, process, stopping), name="own_process")
            await stopping.wait()
            log.info("stopping")
            await gateway.supervisor.stop(STOP_WITHIN_S)
            await _end(running)
    except* CloudRefused as group:
        refused = _first_refusal(group)
    if refused is not None:
        raise refused


async def _quieten(gateway: Gateway, process: OwnProcess, stopping: asyncio.Event) -> None:
    """Before a restart that a task asks for, what may not be cut comes to its end."""
    asked = asyncio.ensure_future(process.until_ending())
    told = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({asked, told}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        asked.cancel()
        told.cancel()
    if process.is_ending and not stopping.is_set():
        await gateway.supervisor.quiet(QUIET_WITHIN_S)
        stopping.set()


async def _end(running: Collection[asyncio.Task[None]]) -> None:
    """Cancel until all have ended.

    Before Python 3.13 a task group that fails at that moment loses the cancel it is given.
    """
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_S)
        for task in running:
            log.warning("still ending", part=task.get_name())


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
        if any(device.kind is not None and device.kind.needs_broker for device in settings.devices):
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


def _outside(settings: Settings, messages: MqttTransport | None) -> Outside:
    smtp = settings.smtp
    mail = None
    if smtp is not None:
        mail = SmtpServer(
            host=smtp.host,
            port=smtp.port,
            sender=smtp.sender,
            username=smtp.username,
            password=smtp.password,
            tls=smtp.tls,
            authority=None if smtp.authority is None else str(smtp.authority),
        )
    return Outside(
        messages=messages,
        web=Web(settings.http.networks()),
        mail=mail,
        sms=None if settings.sms is None else settings.sms.hook(),
        databases=Databases.of(settings.databases),
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
    server = ArtifactServer(cache.find_held, host, port, settings.artifacts.advertise)
    await stack.enter_async_context(server)
    return server, cache


def _device(device: DeviceSettings, surroundings: Surroundings) -> Device:
    kind, options, bus = device.kind, device.options, device.shares
    if kind is None:
        log.error("device has no driver", device=device.id, why=device.broken)

    def problem() -> str:
        name = device.profile_name
        return "" if name is None or name in surroundings.profiles else f"no profile `{name}`"

    def make(on_log: OnDeviceLog) -> Driver:
        if kind is None:
            raise DeviceUnreachable(device.broken)
        if why := problem():
            raise DeviceUnreachable(why)
        return kind.make(device.id, options, surroundings, on_log)

    if kind is not None and not problem():
        make(lambda text: None)  # what is wrong with its options is said at the start
    return Device(
        id=device.id,
        make_driver=make,
        type=device.type,
        name=device.name,
        driver=device.driver,
        address="" if kind is None else kind.address(options),
        bus=f"device:{device.id}" if bus is None else bus.name,
        tags=device.tags,
        attributes=device.attributes,
        keeps_open=kind is not None and kind.keeps_open,
        takes_turns=kind is not None and kind.takes_turns,
        patience_ms=None if device.sleepy else round(device.patience.total_seconds() * 1000),
        problem=problem,
        collects=device.collects(surroundings),
    )


def _itself(
    settings: Settings, process: OwnProcess, surroundings: Surroundings, journal: Database
) -> Device | None:
    """The gateway as a device of its own, where its settings make it one."""
    options = settings.this_gateway
    if options is None:
        return None
    driver = ThisGatewayDriver(options, process, journal, version_of_ours())
    surroundings.loops.update(driver.loops())
    return Device(
        id=THIS_GATEWAY,
        make_driver=lambda on_log: driver,
        driver=THIS_GATEWAY,
        bus=THIS_GATEWAY,
        keeps_open=True,
        takes_turns=True,
        is_told=False,  # it is in no inventory: the cloud knows it as a gateway
    )


def _connector(state: LinkState, broker: BrokerAddress) -> MqttConnector:
    def refused(reason: str) -> None:
        state.alarm = f"the broker refuses what we publish: {reason}"
        log.error("publish refused by the broker", reason=reason)

    return MqttConnector(broker, state.address, state.instance, refused)


def _broker(settings: Settings, token: str | None, tls: ssl.SSLContext | None) -> BrokerAddress:
    host, port, _ = broker_at(settings.cloud.mqtt)
    return BrokerAddress(host, port, token, tls, settings.cloud.mqtt_version)


def profiles_folder(settings: Settings) -> Path:
    """Where deployed profiles are kept."""
    return settings.data_dir / "profiles"


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
