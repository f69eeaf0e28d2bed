"""What an MQTT device publishes of its state: heard beside whoever works with the device."""

from collections.abc import Callable, Mapping
from typing import Final

from pydantic import JsonValue

from contract.template_dialect import render
from gateway.domain.profile_messages import payload_of, values_told
from gateway.domain.profiles import Profile, matches
from gateway.transports.base import Message, MessageLink, Subscription

SUBSCRIBE_WITHIN_S: Final = 10.0
# What a device says by itself is read if it is no longer than this, bytes.
HEARD_SIZE: Final = 64 * 1024


class MqttState:
    """The topics of a profile's `state`, of one device. Nothing is ever sent to it."""

    def __init__(
        self,
        device: str,
        profile: Profile,
        variables: Mapping[str, JsonValue],
        link: MessageLink,
        on_values: Callable[[Mapping[str, JsonValue]], None],
    ) -> None:
        self._scope: dict[str, JsonValue] = {
            "device": device,
            "vars": {**profile.vars, **variables},
        }
        self._told = [(str(render(each.topic, self._scope)), each) for each in profile.state]
        self._link = link
        self._on_values = on_values
        self._subscription: Subscription | None = None

    async def keep(self) -> None:
        """Subscribe, once; the transport renews it. Raises DeviceUnreachable."""
        if self._subscription is None and self._link.is_connected:
            self._subscription = await self._link.subscribe(
                sorted({topic for topic, _ in self._told}),
                self._received,
                timeout_s=SUBSCRIBE_WITHIN_S,
            )

    async def close(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None

    def _received(self, message: Message) -> None:
        if len(message.payload) > HEARD_SIZE:
            return
        payload = payload_of(message.payload)
        scope = {**self._scope, "topic": message.topic, "payload": payload}
        found: dict[str, JsonValue] = {}
        for topic, told in self._told:
            if matches(topic, message.topic):
                found |= values_told(told, scope)
        if found:
            self._on_values(found)
