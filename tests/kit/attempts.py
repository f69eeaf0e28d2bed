"""Offers, bodies and attempts, valid by default; and `play`, which runs a story of facts."""

from collections.abc import Sequence
from typing import Any

from contract.messages import JobBody, OfferedStep, OfferedTask
from gateway.domain.attempt import advance
from gateway.domain.attempt_state import Attempt, accept
from gateway.domain.facts import Begin, Effect, Fact, Instant, Perform, Say, Started

RUN = "0198c0de-0000-7000-8000-000000000001"
AT = Instant(1_760_000_000_000, 5_000)


def a_step(id: str, /, uses: str = "device.command", **fields: Any) -> OfferedStep:
    if uses == "device.command":
        fields.setdefault("with_", {"name": id})
    return OfferedStep.model_validate({"id": id, "uses": uses, **fields})


def a_body(*steps: OfferedStep, run: str = RUN, **fields: Any) -> JobBody:
    values = {"run": run, "hash": "h1", "job": "pump-firmware", "steps": list(steps), **fields}
    return JobBody.model_validate(values)


def an_offer(ordinal: int = 0, attempt: int = 1, run: str = RUN, **fields: Any) -> OfferedTask:
    values = {
        "task": f"{run}-{ordinal}",
        "attempt": attempt,
        "run": run,
        "body": "h1",
        "ordinal": ordinal,
        "device": "pump-7",
        **fields,
    }
    return OfferedTask.model_validate(values)


def an_attempt(*steps: OfferedStep, timeout: int = 60_000, **fields: Any) -> Attempt:
    return accept(an_offer(timeout=timeout, **fields), a_body(*steps), 1, AT)


def later(now: Instant, ms: int) -> Instant:
    return Instant(now.wall + ms, now.mono + ms)


def performed(effects: Sequence[Effect]) -> list[str]:
    """The steps that effects ask to perform."""
    return [effect.step for effect in effects if isinstance(effect, Perform)]


def play(attempt: Attempt, *script: tuple[Fact | int, list[Effect | str]]) -> Attempt:
    """Feed facts, and compare what each asks for; a number instead of a fact lets ms pass.

    A step's name stands for performing it; log lines are not compared.
    """
    now = AT
    for number, (fact, expected) in enumerate(script):
        if isinstance(fact, int):
            now = later(now, fact)
            assert not expected
            continue
        now = later(now, 10)
        before = attempt
        attempt, effects = advance(attempt, fact, now)
        shown = [
            effect.step if isinstance(effect, Perform) else effect
            for effect in effects
            if not isinstance(effect, Say)
        ]
        assert shown == expected, f"line {number}: {fact} -> {shown}, not {expected}"
        assert attempt.revision >= before.revision
    return attempt


def begun(*steps: OfferedStep, **fields: Any) -> Attempt:
    """An attempt whose first step is being performed."""
    attempt, _ = advance(an_attempt(*steps, **fields), Started(1), AT)
    return advance(attempt, Begin(), AT)[0]
