"""notify.*: tell people, by mail or by text message."""

import asyncio
from typing import Final

from pydantic import JsonValue

from contract.steps import E164, AfterRestart, EmailParameters, SmsParameters
from gateway.actions.base import (
    Action,
    Call,
    Reach,
    StepDone,
    StepOutcome,
    StepRefused,
    StepUnanswered,
    parsed,
    stamp_of,
)
from gateway.domain.call_keys import call_key
from gateway.errors import DeviceUnreachable, StepInvalid

TEXTS_AT_ONCE: Final = 5


class NotifyEmail:
    """After a restart in its middle it may have been sent, and is not sent again."""

    after_restart = AfterRestart.ASK

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        asked = parsed(EmailParameters, call)
        if call.resumed:
            return StepUnanswered("interrupted", "the mail may have been sent")
        to = [asked.to] if isinstance(asked.to, str) else asked.to
        name = _key(call)
        try:
            await reach.mail.send(to, asked.subject, asked.text, f"<{name}@roundsman>")
        except DeviceUnreachable as error:
            return StepUnanswered("mail_failed", str(error))
        return StepDone({"message_id": f"<{name}@roundsman>"})


class NotifySms:
    """After a restart in its middle some may have been sent, and none is sent again."""

    after_restart = AfterRestart.ASK

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        asked = parsed(SmsParameters, call)
        if call.resumed:
            return StepUnanswered("interrupted", "messages may have been sent")
        given = [asked.to] if isinstance(asked.to, str) else asked.to
        numbers = list(dict.fromkeys(given))
        wrong = [number for number in numbers if E164.fullmatch(number) is None]
        if wrong:
            text = f"`{wrong[0][:40]}` is no telephone number such as +4930123456 (E.164)"
            return StepRefused("step_invalid", text)
        texter, name, turns = reach.sms, _key(call), asyncio.Semaphore(TEXTS_AT_ONCE)
        unsure = False
        why: dict[str, str] = {}

        async def deliver(place: int, number: str) -> None:
            nonlocal unsure
            async with turns:
                try:
                    await texter.deliver(number, asked.text, f"{name}-{place}")
                except StepInvalid as error:
                    why[number] = str(error)
                except DeviceUnreachable as error:
                    why[number], unsure = str(error), True

        async with asyncio.TaskGroup() as deliveries:
            for place, number in enumerate(numbers):
                deliveries.create_task(deliver(place, number), name=f"sms {place}")
        if not why:
            return StepDone(_result(numbers, why))
        first = next(number for number in numbers if number in why)
        text = f"{len(why)} of {len(numbers)} not sent; to {first}: {why[first]}"
        if unsure:
            return StepUnanswered("sms_failed", text)
        return StepRefused("sms_failed", text, _result(numbers, why))


def _result(numbers: list[str], why: dict[str, str]) -> dict[str, JsonValue]:
    return {
        "sent": [number for number in numbers if number not in why],
        "failed": [{"to": number, "why": why[number]} for number in numbers if number in why],
    }


def _key(call: Call) -> str:
    """What names this notification in every attempt."""
    stamp = stamp_of(call)
    return call_key(
        stamp["run"], stamp["task"], call.step, call.item, dict(call.parameters), call.key
    )


ACTIONS: Final[dict[str, Action]] = {"notify.email": NotifyEmail(), "notify.sms": NotifySms()}
