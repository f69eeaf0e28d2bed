"""mqtt.publish and await: messages on the gateway's local broker."""

import asyncio
import json
from datetime import timedelta

from pydantic import JsonValue

from contract.steps import AfterRestart, AwaitParameters, PublishParameters
from contract.template_dialect import TemplateError, is_true
from gateway.actions.base import (
    Action,
    Call,
    Reach,
    StepDone,
    StepOutcome,
    StepRefused,
    parsed,
    stamp_of,
)
from gateway.domain.profile_messages import payload_of
from gateway.domain.seconds import seconds_of
from gateway.errors import DeviceUnreachable, StepInvalid
from gateway.transports.base import Message

SUBSCRIBE_S = 10.0


class MqttPublish:
    """At least once, as the protocol has it: after a restart it is published again."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        asked = parsed(PublishParameters, call)
        try:
            await _publish(asked, call, reach)
        except DeviceUnreachable as error:
            return StepRefused("broker_unavailable", str(error))
        return StepDone()


class MqttAwait:
    """Waits for a message that matches. What comes while the gateway is down is not heard."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        asked = parsed(AwaitParameters, call)
        _check_filter(asked.topic)
        timeout_s = call.timeout_s
        if isinstance(asked.timeout, timedelta | str):
            timeout_s = min(timeout_s, seconds_of(asked.timeout))
        heard: asyncio.Queue[Message] = asyncio.Queue(1000)

        def take(message: Message) -> None:
            if (asked.retained or not message.is_retained) and not heard.full():
                heard.put_nowait(message)

        try:
            async with asyncio.timeout(timeout_s):
                subscription = await reach.messages.subscribe(
                    [asked.topic], take, timeout_s=min(SUBSCRIBE_S, timeout_s)
                )
                try:
                    if asked.publish is not None:
                        await _publish(asked.publish, call, reach)
                    return StepDone(await _matching(asked, call, heard))
                finally:
                    subscription.close()
        except TimeoutError:
            return StepRefused("step_timed_out", f"no matching message on {asked.topic}")
        except DeviceUnreachable as error:
            return StepRefused("broker_unavailable", str(error))


async def _matching(
    asked: AwaitParameters, call: Call, heard: "asyncio.Queue[Message]"
) -> dict[str, JsonValue]:
    while True:
        message = await heard.get()
        payload = payload_of(message.payload)
        found: dict[str, JsonValue] = {"topic": message.topic, "payload": payload}
        if asked.match is None:
            return found
        try:
            if is_true(asked.match, {**call.scope, **found}):
                return found
        except TemplateError:
            continue  # this message lacks what the expression reads: it is not the one


async def _publish(asked: PublishParameters, call: Call, reach: Reach) -> None:
    if set(asked.topic) & {"+", "#", "\0"}:
        raise StepInvalid(f"nothing can be published on `{asked.topic}`")
    payload = asked.payload
    if asked.stamp and isinstance(payload, dict):
        stamp: dict[str, JsonValue] = dict(stamp_of(call))
        payload = {"roundsman": stamp, **payload}
    data = payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()
    await reach.messages.publish(
        asked.topic, data, timeout_s=call.timeout_s, qos=asked.qos, is_retained=asked.retain
    )


def _check_filter(topic: str) -> None:
    levels = topic.split("/")
    for number, level in enumerate(levels):
        is_last = number == len(levels) - 1
        if ("#" in level and (level != "#" or not is_last)) or ("+" in level and level != "+"):
            raise StepInvalid(f"`{topic}` is no topic filter")


ACTIONS: dict[str, Action] = {"mqtt.publish": MqttPublish(), "mqtt.await": MqttAwait()}
