"""Several devices of one gateway, and itself, updated together: all of them, or none.

Four steps: stage brings every image onto its device, switch restarts into them rank by rank and
reads back, confirm keeps them all, and rollback, which always runs, takes back what was not kept.
The devices belong to the attempt meanwhile. Each result holds what was read back from each.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from pydantic import JsonValue

from contract.durations import parse_duration
from contract.ids import THIS_GATEWAY
from contract.steps import AfterRestart, TogetherParameters
from gateway.actions.base import (
    Call,
    Reach,
    StepDone,
    StepOutcome,
    StepRefused,
    parsed,
    restart_request,
)
from gateway.actions.firmware.looks import Stop, about, look, settled, until_online
from gateway.domain.uploads import uploads_of
from gateway.drivers.base import Reset
from gateway.errors import (
    ArtifactUnavailable,
    DeviceUnreachable,
    ReplyGarbled,
    StepInvalid,
)

MEMORY: Final = "together"
KEPT: Final = "kept_together"
FOR_MEMBERS: Final = 0.9  # of a step's time; the rest is for reading back

Facts = dict[str, JsonValue]


@dataclass(frozen=True)
class Member:
    """One device of the update, with what the attempt remembers of it."""

    device: str
    rank: int
    upload: Mapping[str, JsonValue]
    fallback: str | None
    memory: Mapping[str, JsonValue]

    @property
    def turn(self) -> tuple[int, bool]:
        """Within a rank the gateway comes last, and alone: its restart interrupts the others."""
        return self.rank, self.device == THIS_GATEWAY

    @property
    def version(self) -> Facts:
        version = self.upload.get("version")
        return {} if version is None else {"version": version}


@dataclass(frozen=True)
class _Ended:
    """What became of one member in one step; `failure` is None where it was done."""

    member: Member
    facts: Facts
    memory: Mapping[str, JsonValue]
    failure: tuple[str, str] | None = None


Work = Callable[[Member, Call, Reach], Awaitable[_Ended]]


class _Together:
    """One step over all members: rank after rank, so many at once in each."""

    after_restart = AfterRestart.RESUME
    by_rank = True
    goes_on = False

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        members, at_once = _members(call)
        await reach.claim([member.device for member in members])
        return _outcome(await self._all(members, at_once, call, reach), call)

    async def _all(
        self, members: Sequence[Member], at_once: int, call: Call, reach: Reach
    ) -> list[_Ended]:
        ended: list[_Ended] = []
        ranks = [list(each) for _, each in groupby(members, key=lambda member: member.turn)]
        if not self.by_rank:
            ranks = [list(members)]
        seats = asyncio.Semaphore(at_once)
        done: list[_Ended] = []
        # Who never answers must leave time for those whose turn comes later.
        turns = sum(-(-len(rank) // at_once) for rank in ranks) if self.goes_on else 1
        call = replace(call, timeout_s=call.timeout_s * FOR_MEMBERS / turns)

        async def one(member: Member) -> _Ended:
            async with seats:
                found = await _guarded(self.work, member, call, reach.member(member.device))
                done.append(found)
                reach.keep(_told(done))
                reach.progress(100 * len(done) / len(members), f"{member.device} done")
                return found

        for rank in ranks:
            async with asyncio.TaskGroup() as group:
                working = [group.create_task(one(member), name=member.device) for member in rank]
            ended += [each.result() for each in working]
            if not self.goes_on and any(each.failure for each in ended):
                break
        return ended

    async def work(self, member: Member, call: Call, reach: Reach) -> _Ended:
        raise AssertionError


class StageTogether(_Together):
    """Bring every image onto its device; nothing that runs changes."""

    by_rank = False

    async def work(self, member: Member, call: Call, reach: Reach) -> _Ended:
        state = await look(call, reach)
        if state.takes == "any":
            raise Stop("step_invalid", "it starts an image as soon as it has it, before the others")
        if not state.has_way_back:
            text = f"its bootloader ({state.mode}) never goes back, so it cannot be one of several"
            raise Stop("step_invalid", text)
        if not all(i.confirmed for i in state.images if i.active):
            raise Stop("device_refused", "it runs an image on test: confirm it, or roll it back")
        return await _step("firmware.upload", member, member.upload, call, reach)


class SwitchTogether(_Together):
    """Restart into the new images, and read back that they run."""

    async def work(self, member: Member, call: Call, reach: Reach) -> _Ended:
        wait: Facts = {"until": "online", "timeout": call.parameters.get("wait", "2m")}
        steps: tuple[tuple[str, Facts], ...] = (
            ("firmware.test", {}),
            ("device.reset", {}),
            ("device.wait", wait),
            ("firmware.verify", member.version),
        )
        ended = _Ended(member, {}, member.memory)
        for uses, parameters in steps:
            if ended.failure is None:
                ended = await _step(uses, member, parameters, call, reach)
        return ended


class ConfirmTogether(_Together):
    """Keep all images, once each of them has been seen to run a last time."""

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        members, at_once = _members(call)
        await reach.claim([member.device for member in members])
        seen = await _Seen()._all(members, at_once, call, reach)
        if any(each.failure for each in seen):
            return _outcome(seen, call)
        # The gateway first: only it can still go back from a version that it has kept.
        members.sort(key=lambda member: member.device != THIS_GATEWAY)
        outcome = _outcome(await self._all(members, at_once, call, reach), call)
        if isinstance(outcome, StepDone):
            return StepDone(outcome.result, {**outcome.memory, KEPT: True})
        return outcome

    async def work(self, member: Member, call: Call, reach: Reach) -> _Ended:
        return await _step("firmware.confirm", member, {}, call, reach)


class _Seen(_Together):
    by_rank = False

    async def work(self, member: Member, call: Call, reach: Reach) -> _Ended:
        return await _step("firmware.verify", member, member.version, call, reach)


class RollbackTogether(_Together):
    """Take every member back to the image before, last rank first, and read back what runs."""

    goes_on = True

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        if call.memory.get(KEPT) is True:
            return StepDone(note="all images were kept")
        members, at_once = _members(call)
        held = [member for member in members if uploads_of(member.memory)[0].version]
        if not held:
            return StepDone(note="no device was restarted")
        await reach.claim([member.device for member in members])
        backwards = sorted(held, key=lambda member: member.turn, reverse=True)
        return _outcome(await self._all(backwards, at_once, call, reach), call)

    async def work(self, member: Member, call: Call, reach: Reach) -> _Ended:
        wait_s = _wait_s(call)
        await until_online(replace(call, timeout_s=min(wait_s, call.timeout_s)), reach)
        state = await look(call, reach)
        if not state.unmarks:
            state = await settled(call, reach)
        if not state.unmarks and any(image.pending for image in state.images):
            # A mark cannot be taken away: the test boot it asks for is made, and not confirmed.
            reset = Reset(request=restart_request(call))
            await reach.ask_device(reset, call.timeout_s, reach.progress)
            await until_online(call, reach)
        ended = await _step("firmware.rollback", member, {}, call, reach)
        if ended.failure is None or member.fallback is None:
            return ended
        return await self._bring_back(member, call, reach)

    async def _bring_back(self, member: Member, call: Call, reach: Reach) -> _Ended:
        """The device kept the new image and nothing beside it: the old one is sent again."""
        steps: tuple[tuple[str, Facts], ...] = (
            ("firmware.upload", {"artifact": member.fallback}),
            ("firmware.test", {}),
            ("device.reset", {}),
            ("device.wait", {}),
            ("firmware.verify", {}),
            ("firmware.confirm", {}),
        )
        ended = _Ended(member, {}, {})
        for uses, parameters in steps:
            if ended.failure is None:
                fresh = Member(member.device, member.rank, {}, None, ended.memory)
                ended = await _step(uses, fresh, parameters, call, reach)
        return ended


def _members(call: Call) -> tuple[list[Member], int]:
    """Who takes part, by rank, each with its own memory. Raises StepInvalid."""
    kept = call.memory.get(MEMORY)
    memories = kept if isinstance(kept, Mapping) else {}
    given = {key: call.parameters[key] for key in ("members", "at_once") if key in call.parameters}
    asked = parsed(TogetherParameters, Call(call.step, call.uses, given, 0, False, {}))
    if isinstance(asked.at_once, str):
        raise StepInvalid("`at_once` is a number")
    names = [each.device for each in asked.members]
    if len(set(names)) < len(names):
        raise StepInvalid("a device stands twice in the members of an update")
    found = []
    for each in asked.members:
        memory = memories.get(each.device)
        upload = each.model_dump(include={"artifact", "version"}, exclude_none=True)
        found.append(
            Member(
                each.device,
                each.rank,
                upload,
                each.fallback,
                memory if isinstance(memory, Mapping) else {},
            )
        )
    return sorted(found, key=lambda member: member.turn), asked.at_once


async def _step(
    uses: str, member: Member, parameters: Mapping[str, JsonValue], call: Call, reach: Reach
) -> _Ended:
    """One ordinary step on one member."""
    inner = Call(
        step=call.step,
        uses=uses,
        parameters=parameters,
        timeout_s=call.timeout_s,
        resumed=call.resumed,
        scope=call.scope,
        memory=member.memory,
    )
    outcome = await reach.perform(inner)
    if isinstance(outcome, StepDone):
        facts = outcome.result if isinstance(outcome.result, dict) else {}
        return _Ended(member, dict(facts), {**member.memory, **outcome.memory})
    return _Ended(member, {}, member.memory, (outcome.code, outcome.text))


async def _guarded(work: Work, member: Member, call: Call, reach: Reach) -> _Ended:
    """One member's trouble is its own; what it runs then is read back where it answers."""
    try:
        async with asyncio.timeout(call.timeout_s):
            ended = await work(member, call, reach)
    except TimeoutError:
        text = f"not done within {call.timeout_s:.0f} s"
        ended = _Ended(member, {}, member.memory, ("step_timed_out", text))
    except Stop as stop:
        ended = _Ended(member, {}, member.memory, (stop.outcome.code, stop.outcome.text))
    except DeviceUnreachable as error:
        ended = _Ended(member, {}, member.memory, ("device_unreachable", str(error)))
    except ReplyGarbled as error:
        ended = _Ended(member, {}, member.memory, ("reply_garbled", str(error)))
    except (StepInvalid, ArtifactUnavailable) as error:
        ended = _Ended(member, {}, member.memory, (error.code, str(error)))
    if ended.failure is None:
        return ended
    code, text = ended.failure
    facts: Facts = {"error": {"code": code, "text": text}}
    try:
        active = (await look(call, reach)).active
        facts |= {} if active is None else about(active)
    except (Stop, DeviceUnreachable, ReplyGarbled, StepInvalid) as error:
        facts["unread"] = str(error)
    return _Ended(member, facts, ended.memory, ended.failure)


def _told(ended: Sequence[_Ended]) -> JsonValue:
    return {"members": {each.member.device: each.facts for each in ended}}


def _wait_s(call: Call) -> float:
    """How long a device may take to answer again."""
    given = call.parameters.get("wait", "2m")
    try:
        return parse_duration(given).total_seconds()
    except ValueError as error:
        raise StepInvalid(f"wait: {error}") from error


def _outcome(ended: Sequence[_Ended], call: Call) -> StepOutcome:
    result = _told(ended)
    failed = next((each for each in ended if each.failure is not None), None)
    if failed is not None and failed.failure is not None:
        code, text = failed.failure
        return StepRefused(code, f"{failed.member.device}: {text}", result)
    kept = call.memory.get(MEMORY)
    earlier = dict(kept) if isinstance(kept, Mapping) else {}
    memories = {each.member.device: dict(each.memory) for each in ended}
    return StepDone(result, {MEMORY: {**earlier, **memories}})
