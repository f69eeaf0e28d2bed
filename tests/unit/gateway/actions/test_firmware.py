"""Firmware verbs decide from what the device says, so each may be done again at any time."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest

from contract.device.mcuboot import parse_image
from contract.steps import VERBS
from firmware_sim.images import build_image
from gateway.actions.base import Call, FetchedArtifact, StepDone, StepRefused, StepUnanswered
from gateway.actions.registry import ACTIONS, action_for
from gateway.actions.registry import VERBS as PERFORMED
from gateway.drivers.base import (
    Answered,
    Command,
    ConfirmFirmware,
    FirmwareImage,
    FirmwareState,
    Probe,
    ReadFirmware,
    Refused,
    Reset,
    RollbackFirmware,
    TestFirmware,
    UploadFirmware,
)
from gateway.errors import DeviceUnreachable, ReplyGarbled, StepInvalid

NEW = build_image("2.0.0", 4000)
NEW_HASH = parse_image(NEW).hash.hex()
OLD = FirmwareImage(0, "1.0.0", "aa" * 32, active=True, confirmed=True)
STAGED = FirmwareImage(1, "2.0.0", NEW_HASH)
ON_TEST = FirmwareImage(0, "2.0.0", NEW_HASH, active=True)
UPLOADED = {
    "image_hash": NEW_HASH,
    "version": "2.0.0",
    "previous_hash": OLD.image_hash,
    "previous_version": "1.0.0",
}


@dataclass
class FakeReach:
    """A device that is nothing but its image list, and answers what `answers` says."""

    path: str = ""
    images: tuple[FirmwareImage, ...] = (OLD,)
    slot_size: int | None = None
    takes: Literal["mcuboot", "any"] = "mcuboot"
    answers: dict[Any, Any] = field(default_factory=dict)
    asked: list[Any] = field(default_factory=list)
    clock_ms: int = 0
    after_sleep: list[Any] = field(default_factory=list)

    async def ask_device(self, request, timeout_s, on_progress):
        self.asked.append(type(request).__name__)
        answer = self.answers.get(type(request))
        if isinstance(answer, list):
            answer = answer.pop(0) if answer else None
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            return answer
        match request:
            case ReadFirmware():
                state = FirmwareState(self.images, self.slot_size, self.takes)
                return Answered(None, state)
            case UploadFirmware():
                on_progress(50, "half")
                self.images = (*self.images, STAGED)
            case TestFirmware():
                self.images = tuple(
                    replace(i, pending=i.image_hash == request.image_hash) for i in self.images
                )
            case ConfirmFirmware():
                self.images = (replace(self.images[0], confirmed=True),)
            case RollbackFirmware():
                return Answered({"reset_needed": True})
            case Reset():
                self.images = (OLD,)
        return Answered()

    async def fetch(self, artifact, on_progress):
        on_progress(100, "there")
        return FetchedArtifact(self.path, "cd" * 32, len(NEW), "http://gateway/x")

    def artifact_ref(self, artifact):
        return None

    def progress(self, percent, note):
        assert 0 <= percent <= 100

    def log(self, level, text):
        self.asked.append((level, text))

    async def sleep(self, seconds):
        self.clock_ms += int(seconds * 1000)
        if self.after_sleep:
            self.images = self.after_sleep.pop(0)

    def now_ms(self):
        return self.clock_ms


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "image.bin"
    file.write_bytes(NEW)
    return str(file)


def do(uses, reach, memory=None, resumed=False, **parameters):
    call = Call("a", uses, parameters, 60.0, resumed, {}, memory or {})
    return asyncio.run(action_for(uses).perform(call, reach))


def upload(reach, **more):
    return do("firmware.upload", reach, artifact="image", **more)


def test_every_verb_of_the_library_is_performed_as_it_is_declared():
    for uses in PERFORMED:
        assert ACTIONS[uses].after_restart is VERBS[uses].after_restart
    assert {name for name, verb in VERBS.items() if not verb.macro} == set(PERFORMED)
    with pytest.raises(StepInvalid) as caught:
        action_for("device.paint")
    assert caught.value.code == "verb_unknown"


def test_an_upload_remembers_what_later_steps_compare_with(path):
    done = upload(FakeReach(path))
    assert done.result == {"uploaded": True, "version": "2.0.0", "hash": NEW_HASH}
    assert done.memory == {**UPLOADED, "sha256": "cd" * 32}


@pytest.mark.parametrize("images", [(OLD, STAGED), (ON_TEST,), (replace(ON_TEST, confirmed=True),)])
def test_what_the_device_holds_already_is_not_uploaded(path, images):
    reach = FakeReach(path, images)
    done = upload(reach)
    assert done.result["uploaded"] is False
    assert done.note
    assert done.memory["image_hash"] == NEW_HASH
    assert "UploadFirmware" not in reach.asked


def test_a_second_look_does_not_take_the_new_image_for_the_old_one(path):
    done = upload(FakeReach(path, (ON_TEST,)), memory=UPLOADED)
    assert done.memory["previous_hash"] == OLD.image_hash


def test_a_bad_image_never_reaches_the_device(path, tmp_path):
    bad = tmp_path / "bad.bin"
    bad.write_bytes(NEW[:-100] + b"\0" * 100)
    reach = FakeReach(str(bad))
    assert upload(reach).code == "image_invalid"
    assert upload(FakeReach(path, slot_size=1000)).code == "image_too_large"
    assert "UploadFirmware" not in reach.asked


def test_a_device_that_takes_any_file_is_not_asked_for_an_image(tmp_path):
    file = tmp_path / "any.bin"
    file.write_bytes(b"not an image")
    assert isinstance(upload(FakeReach(str(file), takes="any")), StepDone)


def test_a_refused_upload_is_a_refusal(path):
    reach = FakeReach(path, answers={UploadFirmware: Refused("image_refused", "no room")})
    assert upload(reach) == StepRefused("image_refused", "no room")


def test_an_image_the_device_does_not_list_afterwards_was_not_taken(path):
    assert upload(FakeReach(path, answers={UploadFirmware: Answered()})).code == "image_refused"


@pytest.mark.parametrize(
    ("images", "asks"),
    [((OLD, STAGED), True), ((OLD, replace(STAGED, pending=True)), False), ((ON_TEST,), False)],
)
def test_test_asks_only_where_it_must(images, asks):
    reach = FakeReach(images=images)
    assert isinstance(do("firmware.test", reach, UPLOADED), StepDone)
    assert ("TestFirmware" in reach.asked) is asks


def test_test_of_nothing_and_of_a_lost_image():
    assert do("firmware.test", FakeReach()).note == "nothing was uploaded"
    assert do("firmware.test", FakeReach(), UPLOADED).code == "image_refused"


def test_a_build_that_boots_the_newest_image_needs_no_test():
    refusal = Refused("verb_unsupported", "not supported (code 8)")
    reach = FakeReach(images=(OLD, STAGED), answers={TestFirmware: refusal})
    assert "by itself" in do("firmware.test", reach, UPLOADED).note


@pytest.mark.parametrize(
    ("images", "version", "memory", "code"),
    [
        ((ON_TEST,), "2.0.0", UPLOADED, None),
        ((ON_TEST,), "2.0.0+0", UPLOADED, None),
        ((ON_TEST,), None, {}, None),
        ((ON_TEST,), "2.0.1", UPLOADED, "version_mismatch"),
        ((OLD, STAGED), "2.0.0", UPLOADED, "rolled_back"),
        ((OLD,), "2.0.0", {}, "version_mismatch"),
        ((replace(OLD, image_hash="bb" * 32),), None, UPLOADED, "version_mismatch"),
        ((replace(OLD, image_hash=""),), None, UPLOADED, "rolled_back"),
        ((STAGED,), None, {}, "version_mismatch"),
    ],
)
def test_verify_believes_only_what_is_read_back(images, version, memory, code):
    parameters = {} if version is None else {"version": version}
    outcome = do("firmware.verify", FakeReach(images=images), memory, **parameters)
    assert (outcome.code if isinstance(outcome, StepRefused) else None) == code


def test_verify_waits_while_the_swap_has_not_happened_yet():
    waiting = (OLD, replace(STAGED, pending=True))
    reach = FakeReach(images=waiting, after_sleep=[waiting, (ON_TEST,)])
    assert isinstance(do("firmware.verify", reach, UPLOADED), StepDone)


def test_confirm_keeps_the_uploaded_image_and_no_other():
    reach = FakeReach(images=(ON_TEST,))
    assert do("firmware.confirm", reach, UPLOADED).result["confirmed"] is True
    assert do("firmware.confirm", reach, UPLOADED).note == "the image was already confirmed"
    assert reach.asked.count("ConfirmFirmware") == 1
    back = FakeReach(images=(OLD,))
    assert do("firmware.confirm", back, UPLOADED).code == "rolled_back"
    assert "ConfirmFirmware" not in back.asked


def test_a_confirmation_without_effect_is_not_believed():
    reach = FakeReach(images=(ON_TEST,), answers={ConfirmFirmware: Answered()})
    assert do("firmware.confirm", reach, UPLOADED).code == "device_refused"


def test_rollback_restarts_and_reads_back_and_may_be_repeated():
    reach = FakeReach(images=(ON_TEST,))
    assert do("firmware.rollback", reach, UPLOADED).result["version"] == "1.0.0"
    again = do("firmware.rollback", reach, UPLOADED)
    assert again.note
    assert reach.asked.count("Reset") == 1


def test_a_reset_never_ends_the_test_boot_of_the_uploaded_image():
    reach = FakeReach(images=(ON_TEST,))
    assert "already" in do("device.reset", reach, UPLOADED).note
    assert "Reset" not in reach.asked
    assert isinstance(do("device.reset", reach, UPLOADED, force=True), StepDone)
    assert "Reset" in reach.asked


def test_an_interrupted_reset_is_repeated_only_when_it_is_harmless():
    pending = FakeReach(images=(OLD, replace(STAGED, pending=True)))
    assert isinstance(do("device.reset", pending, UPLOADED, resumed=True), StepDone)
    assert "Reset" in pending.asked
    blind = FakeReach(answers={ReadFirmware: StepInvalid("none", "verb_unsupported")})
    assert do("device.reset", blind, resumed=True).code == "interrupted"
    assert "Reset" not in blind.asked


def test_an_unanswered_reset_is_looked_at():
    garbled = ReplyGarbled("no reply")
    waits = FakeReach(images=(OLD, replace(STAGED, pending=True)), answers={Reset: [garbled]})
    assert isinstance(do("device.reset", waits, UPLOADED), StepDone)
    assert waits.asked.count("Reset") == 2
    unclear = FakeReach(answers={Reset: garbled})
    assert isinstance(do("device.reset", unclear), StepUnanswered)


def test_a_command_unanswered_may_have_happened():
    reach = FakeReach(answers={Command: ReplyGarbled("no reply")})
    assert do("device.command", reach, name="open") == StepUnanswered("reply_garbled", "no reply")
    assert do("device.command", reach, name="open", resumed=True).code == "interrupted"
    refused = FakeReach(answers={Command: Refused("device_refused", "jammed")})
    assert do("device.command", refused, name="open") == StepRefused("device_refused", "jammed")
    assert do("device.command", FakeReach(answers={Command: Answered(7)}), name="x").result == 7
    with pytest.raises(StepInvalid):
        do("device.command", FakeReach())


def test_wait_asks_until_the_device_is_there_or_gone():
    gone = DeviceUnreachable("silence")
    reach = FakeReach(answers={Probe: [gone, gone, gone]})
    assert do("device.wait", reach).result["waited_s"] > 0
    assert reach.asked.count("Probe") == 4
    late = do("device.wait", FakeReach(answers={Probe: gone}), timeout="3s")
    assert (late.code, "silence" in late.text) == ("step_timed_out", True)
    assert isinstance(
        do("device.wait", FakeReach(answers={Probe: gone}), until="offline"), StepDone
    )
    assert do("device.wait", FakeReach(), until="offline", timeout=500).code == "step_timed_out"


def test_flow_steps_compute_wait_and_tell():
    reach = FakeReach()
    assert do("flow.set", reach, values={"a": 1}).result == {"a": 1}
    assert do("flow.log", reach, text="hello", level="WARNING") == StepDone()
    assert ("WARNING", "hello") in reach.asked
    do("flow.delay", reach, **{"for": "12s"})
    assert reach.clock_ms == 12_000
    assert do("flow.check", reach, that="1 < 2") == StepDone(True)
    assert do("flow.check", reach, that="2 < 1", message="too hot").text == "too hot"
    assert do("flow.check", reach, that="missing.value").code == "template_failed"
    assert do("flow.check", reach, that=False).code == "expectation_failed"
    with pytest.raises(StepInvalid):
        do("flow.delay", reach, **{"for": "soon"})


PLAIN_OLD = FirmwareImage(0, "1.0.0", active=True, confirmed=True)
PLAIN_NEW = replace(PLAIN_OLD, version="2.0.0")


def test_a_file_that_says_no_version_has_the_one_its_step_gives(path):
    reach = FakeReach(path, (PLAIN_OLD,), takes="any")
    done = upload(reach, version="2.0.0")
    assert done.result == {"uploaded": True, "version": "2.0.0", "hash": ""}
    assert (done.memory["version"], done.memory["previous_version"]) == ("2.0.0", "1.0.0")
    there = upload(FakeReach(path, (PLAIN_NEW,), takes="any"), version="2.0.0")
    assert there.result["uploaded"] is False
    old = do("firmware.verify", FakeReach(images=(PLAIN_OLD,), takes="any"), done.memory)
    assert old.code == "rolled_back"
    new = do("firmware.verify", FakeReach(images=(PLAIN_NEW,), takes="any"), done.memory)
    assert isinstance(new, StepDone)


def test_nothing_is_verified_where_nobody_said_which_version(path):
    reach = FakeReach(path, (PLAIN_OLD,), takes="any")
    memory = upload(reach).memory
    with pytest.raises(StepInvalid, match="give the step a `version`"):
        do("firmware.verify", reach, memory)
    assert isinstance(do("firmware.verify", reach, memory, version="1.0.0"), StepDone)
