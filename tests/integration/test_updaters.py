"""Updaters as programs: whatever one does, the gateway goes on; and the one that we ship."""

import asyncio
import io
import json
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

import psutil
import pytest

from gateway.drivers.base import (
    Answered,
    ConfirmFirmware,
    FirmwareState,
    Probe,
    ReadFirmware,
    Refused,
    Reset,
    RollbackFirmware,
    TestFirmware,
    UploadFirmware,
)
from gateway.drivers.this_gateway import ThisGateway, ThisGatewayDriver
from gateway.errors import ReplyGarbled, StepInvalid
from gateway.journal.database import open_database
from gateway.runner.own_process import OwnProcess
from gateway.transports.program import run_program
from tests.kit.slots import UPDATER, Slots, bundle
from tests.kit.waiting import wait_until

pytestmark = pytest.mark.row("E6")


def script(folder: Path, text: str) -> list[str]:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return [str(path)]


async def run(command, timeout_s=20.0):
    lines: list[bytes] = []
    return await run_program(command, lines.append, timeout_s), lines


async def test_a_program_ends_with_its_code_its_lines_and_its_complaint(tmp_path, monkeypatch):
    monkeypatch.setenv("ROUNDSMAN_GATEWAY__CLOUD__TOKEN", "secret")
    ended, lines = await run(script(tmp_path, "echo one; env; printf end; echo why >&2; exit 4"))
    assert (ended.code, ended.complaint) == (4, "why")
    assert (lines[0], lines[-1]) == (b"one", b"end")
    assert not any(b"secret" in line for line in lines)


@pytest.mark.parametrize("flood", ["yes", "cat /dev/zero", "yes >&2 & yes"])
async def test_a_flood_is_cut_off(tmp_path, flood):
    with pytest.raises(ReplyGarbled, match="too much"):
        await run(script(tmp_path, flood))


async def test_who_takes_too_long_is_killed_with_all_it_started(tmp_path):
    with pytest.raises(ReplyGarbled, match="did not end"):
        await run(script(tmp_path, f"sleep 600 & echo $! > {tmp_path}/child; wait"), 0.5)
    child = int((tmp_path / "child").read_text())

    def is_gone() -> bool:
        try:
            return psutil.Process(child).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    wait_until(is_gone, 20, "the child to be gone")


async def test_a_program_that_is_none_is_said(tmp_path):
    with pytest.raises(StepInvalid, match="cannot be started"):
        await run([str(tmp_path / "nothing")])


class Itself:
    """The driver of a gateway whose software lies in slots; each `start` is one of the process."""

    def __init__(self, folder: Path) -> None:
        self.slots = Slots(folder / "software")
        self.folder, self.boot = folder, 0
        self.journal = open_database(folder, inline=True)

    def start(self) -> ThisGatewayDriver:
        self.boot += 1
        self.process = OwnProcess(self.boot)
        self.process.welcomed()
        start = [*self.slots.command, "start", "--", "true"]
        subprocess.run(start, check=True, capture_output=True)
        update = {"program": self.slots.command, "cloud_within": "300ms"}
        options = ThisGateway.model_validate({"update": update})
        return ThisGatewayDriver(options, self.process, self.journal, "0")

    def upload(self, data: bytes) -> UploadFirmware:
        path = self.folder / "artifact"
        path.write_bytes(data)
        return UploadFirmware(path, "", len(data), "", "", "")


@pytest.fixture
def itself(tmp_path):
    it = Itself(tmp_path)
    yield it
    it.journal.close()


async def ask(driver, request):
    return await driver.perform(request, 20, lambda *_: None)


async def state_of(driver) -> FirmwareState:
    answer = await ask(driver, ReadFirmware())
    assert isinstance(answer, Answered), answer
    assert answer.firmware is not None
    return answer.firmware


async def put_on_test(itself) -> ThisGatewayDriver:
    driver = itself.start()
    assert isinstance(await ask(driver, itself.upload(bundle("2.0.0"))), Answered)
    staged = next(i for i in (await state_of(driver)).images if not i.active)
    assert isinstance(await ask(driver, TestFirmware(staged.image_hash, "r")), Answered)
    started: ThisGatewayDriver = itself.start()
    return started


async def test_a_version_on_test_is_kept_once_the_cloud_has_welcomed_it(itself):
    driver = await put_on_test(itself)
    active = (await state_of(driver)).active
    assert (active.version, active.confirmed) == ("2.0.0", False)
    itself.process = driver._process = OwnProcess(itself.boot)
    refused = await ask(driver, ConfirmFirmware())
    assert isinstance(refused, Refused)
    assert "welcomed" in refused.text
    itself.process.welcomed()
    for _ in range(2):
        assert isinstance(await ask(driver, ConfirmFirmware()), Answered)
    itself.start()
    assert itself.slots.running == ("2.0.0", True)


async def test_one_that_the_cloud_does_not_welcome_goes_back_by_itself(itself):
    driver = await put_on_test(itself)
    driver._process = process = OwnProcess(itself.boot)
    await driver.watch_trial()
    assert process.is_ending
    itself.start()
    assert itself.slots.running == ("1.0.0", True)


async def test_a_restart_is_made_once_for_one_request(itself):
    driver = itself.start()
    asking = asyncio.ensure_future(ask(driver, Reset(request="t/1/reset")))
    await itself.process.until_ending()
    asking.cancel()
    driver = itself.start()
    again = await ask(driver, Reset(request="t/1/reset"))
    assert again == Answered({"restarted": True, "boot": 2})
    assert not itself.process.is_ending


async def test_a_kept_version_is_gone_back_from_and_not_for_ever_to_and_fro(itself):
    driver = await put_on_test(itself)
    await ask(driver, ConfirmFirmware())
    for _ in range(2):
        answer = await ask(driver, RollbackFirmware())
        assert answer.result == {"reset_needed": True, "done": False}
    driver = itself.start()
    assert itself.slots.running == ("1.0.0", True)
    assert (await ask(driver, RollbackFirmware())).result == {"reset_needed": False, "done": True}
    assert isinstance(await ask(driver, Probe()), Answered)


async def test_an_updater_that_says_nonsense_or_refuses_is_our_own_error(tmp_path):
    journal = open_database(tmp_path, inline=True)
    try:
        for text, wrong in (("echo hello", ReplyGarbled), ("exec 1>&-", ReplyGarbled)):
            options = ThisGateway.model_validate({"update": {"program": script(tmp_path, text)}})
            driver = ThisGatewayDriver(options, OwnProcess(1), journal, "0")
            with pytest.raises(wrong):
                await ask(driver, ReadFirmware())
            await driver.watch_trial()
        options = ThisGateway.model_validate({"update": {"program": script(tmp_path, "exit 9")}})
        driver = ThisGatewayDriver(options, OwnProcess(1), journal, "0")
        refused = await ask(driver, ReadFirmware())
        assert isinstance(refused, Refused)
        assert refused.code == "device_refused"
    finally:
        journal.close()


# -- the updater that we ship, by its verbs


def do(folder, *words) -> tuple[int, str]:
    command = [str(UPDATER), "--folder", str(folder), "--max-bytes", "100000", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr


def tarball(*members: tuple[str, bytes], link: str = "") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in members:
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
        if link:
            about = tarfile.TarInfo("link")
            about.type, about.linkname = tarfile.SYMTYPE, link
            tar.addfile(about)
    return out.getvalue()


def wheel(*members: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, data in members:
            file.writestr(name, data)
    return out.getvalue()


VERSION = ("VERSION", b"2.0.0\n")
METADATA = ("x-2.dist-info/METADATA", b"Name: x\nVersion: 2.0.0\n")
UNUSABLE = {
    "nothing": b"",
    "no archive": b"#!/bin/sh\n",
    "cut": bundle("2.0.0")[:-20],
    "no version": tarball(("bin/gateway", b"")),
    "a path outside": tarball(VERSION, ("../../evil", b"x")),
    "an absolute link": tarball(VERSION, link="/etc/passwd"),
    "a link outside": tarball(VERSION, link="../../x"),
    "too large": tarball(VERSION, ("zeros", bytes(200_000))),
    "a wheel outside": wheel(METADATA, ("../evil", b"x")),
    "a wheel too large": wheel(METADATA, ("zeros", bytes(200_000))),
    "a wheel of nothing": wheel(("x.py", b"")),
}


def test_a_file_that_cannot_be_used_changes_nothing(tmp_path):
    slots, file = Slots(tmp_path / "software"), tmp_path / "artifact"
    before = slots.status()
    for name, data in UNUSABLE.items():
        file.write_bytes(data)
        code, why = do(slots.folder, "stage", file)
        assert (code, bool(why.strip())) == (2, True), (name, why)
    assert slots.status() == before
    assert {path.name for path in tmp_path.iterdir()} <= {"software", "artifact", "1.0.0.tar.gz"}
    assert do(slots.folder, "switch")[0] == 4


def test_a_wheel_runs_from_its_slot(tmp_path):
    slots, file = Slots(tmp_path / "software"), tmp_path / "artifact"
    file.write_bytes(wheel(METADATA, ("tool.py", b"print('ran in the slot')\n")))
    for verb in (("stage", file), ("stage", file), ("switch",), ("switch",)):
        assert do(slots.folder, *verb) == (0, "")
    assert slots.do("start", "--", "python3", "-m", "tool") == "ran in the slot\n"


@pytest.mark.parametrize("gone", ["state.json", "current"])
def test_power_lost_in_the_middle_of_a_start_leaves_the_version_before(tmp_path, gone):
    """The state is on the disk before the link: what it says is then one start ahead."""
    slots, file = Slots(tmp_path / "software"), tmp_path / "artifact"
    file.write_bytes(bundle("2.0.0", "true"))
    slots.do("stage", file)
    slots.do("switch")
    state = slots.folder / "state.json"
    if gone == "current":  # the trial was noted, the link not yet moved
        state.write_text(json.dumps({"on_test": "b", "before": "a"}))
    else:  # the link was moved back, the state not yet cleared
        slots.do("start", "--", "true")
        os.replace(slots.folder / "current", slots.folder / "was")
        (slots.folder / "current").symlink_to("a")
    slots.do("start", "--", "true")
    assert slots.running == ("1.0.0", True)
