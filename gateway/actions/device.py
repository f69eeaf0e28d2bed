"""device.command, read, write, reset, wait and delegate: what a device can be asked to do."""

import asyncio
from collections.abc import Mapping
from typing import assert_never

from pydantic import JsonValue

from contract.durations import parse_duration
from contract.steps import AfterRestart
from gateway.actions.base import (
    Action,
    Call,
    Reach,
    StepDone,
    StepOutcome,
    StepRefused,
    StepUnanswered,
    restart_request,
    stamp_of,
)
from gateway.domain.uploads import uploads_of
from gateway.drivers.base import (
    Answered,
    Command,
    Delegate,
    FirmwareState,
    Probe,
    ReadFirmware,
    ReadPoints,
    Refused,
    Reset,
    WritePoints,
)
from gateway.errors import DeviceUnreachable, ReplyGarbled, StepInvalid

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 2.0
PROBE_WITHIN_S = 3.0
READ_WITHIN_S = 15.0
RESETS = 3


class DeviceCommand:
    """Send a command; its reply is the step's result."""

    after_restart = AfterRestart.ASK

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        name, given = call.parameters.get("name"), call.parameters.get("parameters") or {}
        if not isinstance(name, str) or not isinstance(given, Mapping):
            raise StepInvalid("device.command takes a `name`, and `parameters` as an object")
        command = Command(name, given, resumed=call.resumed)
        try:
            answer = await reach.ask_device(command, call.timeout_s, reach.progress)
        except ReplyGarbled as error:
            code = "interrupted" if call.resumed else "reply_garbled"
            return StepUnanswered(code, str(error))
        return _outcome(answer)


class DeviceRead:
    """Read named points, of a device whose driver has points."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        given = call.parameters.get("points")
        names = [given] if isinstance(given, str) else given
        if not isinstance(names, list) or not names:
            raise StepInvalid("device.read takes `points`: names of points")
        request = ReadPoints(tuple(str(name) for name in names))
        try:
            return _outcome(await reach.ask_device(request, call.timeout_s, reach.progress))
        except ReplyGarbled as error:
            return StepUnanswered("reply_garbled", str(error))


class DeviceWrite:
    """Write named points, of a device whose driver has points."""

    after_restart = AfterRestart.ASK

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        values = call.parameters.get("values")
        if not isinstance(values, Mapping) or not values:
            raise StepInvalid("device.write takes `values`: an object of points and values")
        request = WritePoints(values, resumed=call.resumed)
        try:
            return _outcome(await reach.ask_device(request, call.timeout_s, reach.progress))
        except ReplyGarbled as error:
            code = "interrupted" if call.resumed else "reply_garbled"
            return StepUnanswered(code, str(error))


class DeviceReset:
    """Restart the device, unless that would end the test boot of the image just uploaded.

    So a reset is never repeated blindly: the images tell whether it has happened. `force` restarts
    whatever runs.
    """

    after_restart = AfterRestart.ASK

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        is_forced = call.parameters.get("force") is True
        reset = Reset(is_forced, request=restart_request(call))
        uploaded = {each.image_hash for each in uploads_of(call.memory)} - {""}
        for _ in range(RESETS):
            if call.resumed or (uploaded and not is_forced):
                state = await _read_if_possible(reach)
                if _is_on_test(state, uploaded):
                    return StepDone(note="the device has already restarted into the new image")
                if call.resumed and (state is None or state.active is None):
                    text = "the device cannot tell whether it restarted"
                    return StepUnanswered("interrupted", text)
            try:
                answer = await reach.ask_device(reset, call.timeout_s, reach.progress)
            except ReplyGarbled as error:
                unanswered = str(error)
            else:
                return _outcome(answer)
            if not await self._has_not_happened(reach):
                break
        try:
            state = await _read_if_possible(reach)
        except (DeviceUnreachable, ReplyGarbled):
            return StepUnanswered("reply_garbled", unanswered)
        if _is_on_test(state, uploaded):
            return StepDone(note="not answered, but the device runs the new image")
        return StepUnanswered("reply_garbled", unanswered)

    async def _has_not_happened(self, reach: Reach) -> bool:
        """A swap that still waits proves that the device has not restarted."""
        try:
            state = await _read_if_possible(reach)
        except (DeviceUnreachable, ReplyGarbled):
            return False
        return state is not None and any(image.pending for image in state.images)


class DeviceWait:
    """Wait until the device answers, or no longer does."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        until = call.parameters.get("until", "online")
        if until not in ("online", "offline"):
            raise StepInvalid(f"device.wait knows `online` and `offline`, not `{until}`")
        timeout_s = _seconds(call.parameters.get("timeout"), call.timeout_s)
        started_ms, pause_s = reach.now_ms(), FIRST_PAUSE_S
        while True:
            is_online, why = await self._probe(reach)
            waited_s = (reach.now_ms() - started_ms) / 1000
            if is_online is (until == "online"):
                return StepDone({"waited_s": round(waited_s, 3)})
            if waited_s + pause_s > timeout_s:
                still = f"it does not answer: {why}" if why else "it still answers"
                return StepRefused("step_timed_out", f"not {until} within {timeout_s:g} s; {still}")
            await reach.sleep(pause_s)
            pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)

    async def _probe(self, reach: Reach) -> tuple[bool, str]:
        """A device that refuses is there."""
        try:
            await reach.ask_device(Probe(), PROBE_WITHIN_S, reach.progress)
        except (DeviceUnreachable, ReplyGarbled) as error:
            return False, str(error)
        return True, ""


class DeviceDelegate:
    """Hand the device a job document that it runs itself; its end is the step's."""

    after_restart = AfterRestart.RESUME

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        until_s = asyncio.get_running_loop().time() + call.timeout_s
        document = call.parameters.get("document")
        if not isinstance(document, Mapping) or not document:
            raise StepInvalid("device.delegate takes a `document`: an object, not empty")
        stamp, limit = stamp_of(call), call.parameters.get("timeout")
        request = Delegate(
            task=stamp["task"],
            attempt=int(stamp["attempt"] or 0),
            step=call.step,
            document=document,
            until_s=until_s,
            stop=reach.stop,
            work_s=None if limit is None else _seconds(limit, 0, "device.delegate"),
            resumed=call.resumed,
        )
        return _outcome(await reach.ask_device(request, call.timeout_s, reach.progress))


def _outcome(answer: Answered | Refused) -> StepOutcome:
    match answer:
        case Answered():
            return StepDone(answer.result)
        case Refused():
            return StepRefused(answer.code, answer.text, answer.result)
    assert_never(answer)


def _is_on_test(state: FirmwareState | None, uploaded: set[str]) -> bool:
    """Whether an uploaded image runs and is not confirmed: a restart would take it away."""
    images = () if state is None else state.images
    return any(i.active and i.image_hash in uploaded and not i.confirmed for i in images)


async def _read_if_possible(reach: Reach) -> FirmwareState | None:
    try:
        answer = await reach.ask_device(ReadFirmware(), READ_WITHIN_S, reach.progress)
    except StepInvalid:
        return None
    return answer.firmware if isinstance(answer, Answered) else None


def _seconds(value: JsonValue, default_s: float, uses: str = "device.wait") -> float:
    if value is None:
        return default_s
    try:
        return parse_duration(value).total_seconds()
    except ValueError as error:
        raise StepInvalid(f"{uses}: {error}") from error


ACTIONS: dict[str, Action] = {
    "device.command": DeviceCommand(),
    "device.read": DeviceRead(),
    "device.write": DeviceWrite(),
    "device.reset": DeviceReset(),
    "device.wait": DeviceWait(),
    "device.delegate": DeviceDelegate(),
}
