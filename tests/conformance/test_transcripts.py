"""The shipped profiles against transcripts: what devices of each family are documented to say."""

import contextlib
import hashlib
from pathlib import Path

import pytest

from gateway.drivers.base import (
    Answered,
    Command,
    ReadFirmware,
    ReadPoints,
    Refused,
    UploadFirmware,
    WritePoints,
)
from tests.kit.device_rigs import running
from tests.kit.family_rigs import broker_link, family_driver, shipped_profile
from tests.kit.transcripts import TranscriptDevice, read_transcript
from tests.kit.waiting import wait_until_async

pytestmark = pytest.mark.row("E3", "E4")

FOLDER = Path(__file__).parent / "transcripts"
FIRMWARE = b"firmware two, in three pieces of ten\n"
LISTENS = {
    "tasmota": ["cmnd/pump-1/+"],
    "shelly_gen2": ["pump-1/rpc"],
    "zigbee2mqtt": ["zigbee2mqtt/pump-1/get", "zigbee2mqtt/pump-1/set",
                    "zigbee2mqtt/bridge/request/#"],
    "esphome": ["pump-1/+/+/command"],
    "shelly_gen1": ["shellies/pump-1/command", "shellies/pump-1/relay/0/command"],
    "losant": ["losant/pump-1/command"],
    "thingsboard": ["v1/devices/me/rpc/request/+", "v1/devices/me/attributes",
                    "v2/fw/response/+/chunk/+"],
}  # fmt: skip


class Stage:
    """A driver opposite a transcript."""

    def __init__(self, driver, device, file):
        self.driver = driver
        self.device = device
        self.file = file
        self.progress = []

    async def ask(self, request):
        return await self.driver.perform(
            request, 20, lambda percent, note: self.progress.append((percent, note))
        )

    async def version(self):
        return (await self.ask(ReadFirmware())).firmware.active.version

    async def until_version(self, version):
        async def is_there():
            return await self.version() == version

        await wait_until_async(is_there, message=f"version {version}")

    async def upload(self, version):
        digest = hashlib.sha256(FIRMWARE).hexdigest()
        url = f"http://192.0.2.99:1234/{digest}"
        request = UploadFirmware(self.file, digest, len(FIRMWARE), "", version, url)
        return await self.ask(request)


@pytest.fixture
def stage(tmp_path, nats):
    @contextlib.asynccontextmanager
    async def make(family, lines=None):
        file = tmp_path / "firmware.bin"
        file.write_bytes(FIRMWARE)
        lines = lines or read_transcript(FOLDER / f"{family}.jsonl")
        async with broker_link(nats, "gateway") as link, broker_link(nats, "device") as other:
            driver = family_driver(shipped_profile(family), link, [], {})
            await driver.talk.open()
            device = TranscriptDevice(lines, other, LISTENS[family])
            async with running(device.run):
                it = Stage(driver, device, file)
                try:
                    yield it
                    await wait_until_async(lambda: device.is_over, message="the last line")
                finally:
                    await driver.close()

    return make


async def test_tasmota(stage):
    async with stage("tasmota") as it:
        assert await it.version() == "13.1.0"
        assert isinstance(await it.ask(Command("on")), Answered)
        assert isinstance(await it.upload("14.4.1"), Answered)
        assert await it.version() == "14.4.1"


async def test_shelly_gen2(stage):
    async with stage("shelly_gen2") as it:
        assert await it.version() == "1.4.2"
        assert isinstance(await it.ask(Command("on")), Answered)
        assert (await it.ask(ReadPoints(("power",)))).result == {"values": {"power": 23.4}}
        refused = await it.ask(Command("Cover.Open", {"id": 0}))
        assert isinstance(refused, Refused) and "-114" in refused.text
        assert isinstance(await it.upload("1.5.0"), Answered)
        assert it.progress == [(37.0, "ota_progress"), (99.0, "ota_progress")]
        assert await it.version() == "1.5.0"


async def test_zigbee2mqtt(stage):
    async with stage("zigbee2mqtt") as it:
        assert await it.version() == "16777241"
        assert isinstance(await it.ask(Command("on")), Answered)
        assert isinstance(await it.upload("16777242"), Answered)
        assert it.progress[-1] == (64.5, "updating")
        assert await it.version() == "16777242"


async def test_esphome(stage):
    async with stage("esphome") as it:
        assert await it.version() == "2025.12.1"
        sensor = await it.ask(ReadPoints(("sensor", "latest_version")))
        assert sensor.result == {"values": {"sensor": 21.3, "latest_version": "2026.1.0"}}
        assert isinstance(await it.ask(WritePoints({"relay": True})), Answered)
        assert isinstance(await it.ask(Command("install_update")), Answered)
        await wait_until_async(lambda: it.device.is_over)
        await it.until_version("2026.1.0")


async def test_shelly_gen1(stage):
    async with stage("shelly_gen1") as it:
        assert await it.version() == "20230913-112003/v1.14.0-gcb84623"
        assert isinstance(await it.ask(Command("on")), Answered)
        assert isinstance(await it.ask(Command("update_fw")), Answered)
        await wait_until_async(lambda: it.device.is_over)
        await it.until_version("20240801-100000/v1.14.1-g0a1b2c3")


async def test_losant(stage):
    async with stage("losant") as it:
        assert await it.version() == "1.0.0"
        assert isinstance(await it.ask(WritePoints({"value": 7})), Answered)
        assert (await it.ask(Command("reboot", {"in": 5}))).result is None


async def test_thingsboard(stage):
    async with stage("thingsboard") as it:
        assert await it.version() == "1.0.0"
        assert (await it.ask(Command("getValue"))).result == 42
        assert isinstance(await it.upload("2.0.0"), Answered)
        assert await it.version() == "2.0.0"


def test_every_family_has_its_transcript():
    names = {path.stem for path in FOLDER.glob("*.jsonl")}
    assert names == set(LISTENS)
