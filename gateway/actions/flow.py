"""flow.delay, check, set, log, acknowledge and for_each: steps about the task itself."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from contract.durations import parse_duration
from contract.steps import MAX_LOOP, AcknowledgeParameters, AfterRestart, ForEachParameters
from contract.template_dialect import TemplateError, evaluate, is_true, render
from gateway.actions.base import (
    Action,
    AtOnce,
    Call,
    Reach,
    StepDone,
    StepOutcome,
    StepRefused,
    parsed,
)
from gateway.domain.facts import Acknowledgment
from gateway.domain.parameters import rendered
from gateway.errors import StepInvalid

TELL_EVERY_S = 5.0


class FlowDelay:
    """Do nothing for a while; after a restart of the gateway, for all of it again."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        try:
            total_s = parse_duration(call.parameters.get("for")).total_seconds()
        except ValueError as error:
            raise StepInvalid(f"flow.delay: {error}") from error
        left_s = total_s
        while left_s > 0:
            reach.progress(100 * (1 - left_s / total_s), f"{left_s:.0f} s left")
            pause_s = min(left_s, TELL_EVERY_S)
            await reach.sleep(pause_s)
            left_s -= pause_s
        return StepDone()


class FlowCheck(AtOnce):
    """Fail unless an expression is true. One in braces has been computed already."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        that = call.parameters.get("that")
        try:
            holds = is_true(that, call.scope) if isinstance(that, str) else bool(that)
        except TemplateError as error:
            return StepRefused("template_failed", str(error))
        if holds:
            return StepDone(True)
        message = call.parameters.get("message") or f"not true: {that}"
        return StepRefused("expectation_failed", str(message))


class FlowSet(AtOnce):
    """Values, rendered before the step began, become its result."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        return StepDone(call.parameters.get("values"))


class FlowLog(AtOnce):
    """A line in the task's log."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        text = call.parameters.get("text", "")
        level = call.parameters.get("level", "INFO")
        reach.log(str(level), text if isinstance(text, str) else str(text))
        return StepDone()


class FlowAcknowledge:
    """The task's last word, which counts once its steps are done."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        asked = parsed(AcknowledgeParameters, call)
        word = Acknowledgment(
            success=bool(asked.success),
            result=asked.result,
            accumulator=asked.accumulator,
            text=asked.text,
            by=f"step {call.step}",
        )
        return StepDone(asked.result, acknowledgment=word)


@dataclass
class _Loop:
    """A loop under way. `failure` is the first one that stops it."""

    call: Call
    reach: Reach
    asked: ForEachParameters
    items: list[JsonValue]
    results: list[JsonValue] = field(default_factory=list)
    failure: StepRefused | None = None
    done: int = 0

    async def element(self, index: int, carried: JsonValue = None) -> JsonValue:
        """Perform one element and keep its result; returns what it hands on."""
        scope: dict[str, JsonValue] = {
            **self.call.scope, "item": self.items[index], "index": index, "carried": carried,
        }  # fmt: skip
        try:
            outcome = await self._outcome(index, scope)
            handed_on = carried
            if isinstance(outcome, StepDone):
                scope["result"] = self.results[index] = outcome.result
                if self.asked.next is not None:
                    handed_on = evaluate(self.asked.next, scope)
        except TemplateError as error:
            outcome = StepRefused("template_failed", str(error))
        if not isinstance(outcome, StepDone):
            handed_on = carried
            why = {"code": outcome.code, "text": outcome.text}
            self.results[index] = {"error": {**why}}
            if self.asked.on_error == "stop" and self.failure is None:
                self.failure = StepRefused(outcome.code, f"element {index}: {outcome.text}")
        self.done += 1
        self.reach.keep(list(self.results))
        self.reach.progress(100 * self.done / len(self.items), f"{self.done} of {len(self.items)}")
        return handed_on

    async def _outcome(self, index: int, scope: Mapping[str, JsonValue]) -> StepOutcome:
        step = self.asked.step
        if step.when is not None and not is_true(step.when, scope):
            return StepDone()
        key = None if self.call.key is None else f"{self.call.key}-{index}"
        outcome = await self.reach.perform(
            Call(
                step=self.call.step,
                uses=step.uses,
                parameters=rendered(step.uses, step.with_, scope),
                timeout_s=self.call.timeout_s,
                resumed=self.call.resumed,
                scope=scope,
                memory=self.call.memory,
                key=key if step.key is None else str(render(step.key, scope)),
                item=index,
            )
        )
        if not isinstance(outcome, StepDone) or step.expect is None:
            return outcome
        if is_true(step.expect, {**scope, "result": outcome.result}):
            return outcome
        return StepRefused("expectation_failed", f"`{step.expect}` is not true")

    async def in_turn(self) -> None:
        carried = self.asked.carry
        for index in range(len(self.items)):
            carried = await self.element(index, carried)
            if self.failure is not None:
                return

    async def at_once(self, concurrency: int) -> None:
        """What has begun finishes, also after the failure that stops the loop."""
        indexes = iter(range(len(self.items)))

        async def work() -> None:
            for index in indexes:
                if self.failure is not None:
                    return
                await self.element(index)

        async with asyncio.TaskGroup() as workers:
            for number in range(min(concurrency, len(self.items))):
                workers.create_task(work(), name=f"{self.call.step}-{number}")


class FlowForEach:
    """A step for each item.

    After a restart it begins anew, and each element knows that it may have happened; what has been
    done when the step's time ends stays in the result.
    """

    after_restart = AfterRestart.ASK

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        asked = parsed(ForEachParameters, call)
        if not isinstance(asked.items, list):
            raise StepInvalid("flow.for_each: `items` is no list")
        if len(asked.items) > MAX_LOOP:
            raise StepInvalid(f"flow.for_each: {len(asked.items)} items; at most {MAX_LOOP}")
        if not isinstance(asked.concurrency, int):
            raise StepInvalid("flow.for_each: `concurrency` is no number")
        loop = _Loop(call, reach, asked, asked.items, [None] * len(asked.items))
        reach.keep(list(loop.results))
        if asked.mode == "serial":
            await loop.in_turn()
        else:
            await loop.at_once(asked.concurrency)
        if loop.failure is not None:
            return StepRefused(loop.failure.code, loop.failure.text, loop.results)
        return StepDone(loop.results)


ACTIONS: dict[str, Action] = {
    "flow.delay": FlowDelay(),
    "flow.check": FlowCheck(),
    "flow.set": FlowSet(),
    "flow.log": FlowLog(),
    "flow.acknowledge": FlowAcknowledge(),
    "flow.for_each": FlowForEach(),
}
