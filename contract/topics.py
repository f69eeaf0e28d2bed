"""Topics between cloud and gateway, built and parsed: `roundsman/v1/{shard}/{org}/{gateway}/…`."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from contract.ids import GatewayId, OrgId, is_id, shard_of

ROOT: Final = "roundsman/v1"


class Kind(StrEnum):
    """Every kind of message; the last word of its topic."""

    PRESENCE = "presence"
    HELLO = "hello"
    REPORT = "report"
    CALL = "call"
    WELCOME = "welcome"
    OFFER = "offer"
    CANCEL = "cancel"
    RECEIPT = "receipt"
    REPLY = "reply"


UP: Final = frozenset({Kind.PRESENCE, Kind.HELLO, Kind.REPORT, Kind.CALL})
DOWN: Final = frozenset(Kind) - UP


class TopicInvalid(ValueError):
    """A topic that no gateway of ours could have used."""


@dataclass(frozen=True)
class Address:
    """One gateway of one org, as topics name it."""

    org: OrgId
    gateway: GatewayId

    @property
    def name(self) -> str:
        """The word that is MQTT user, client id and certificate CN alike: `org/gateway`."""
        return f"{self.org}/{self.gateway}"

    @property
    def shard(self) -> str:
        return shard_of(self.org, self.gateway)

    def topic(self, kind: Kind) -> str:
        direction = "up" if kind in UP else "down"
        return f"{ROOT}/{self.shard}/{self.name}/{direction}/{kind}"

    def down_filter(self) -> str:
        """What a gateway subscribes to."""
        return f"{ROOT}/{self.shard}/{self.name}/down/+"


def up_filter(shard: int) -> str:
    """What the owner of a shard subscribes to."""
    return f"{ROOT}/{shard:02x}/+/+/up/+"


def parse(topic: str) -> tuple[Address, Kind]:
    """The address and kind a topic names.

    Raises TopicInvalid for a foreign root, an id outside our pattern, a shard that is not the
    gateway's own, an unknown kind, or a kind in the wrong direction.
    """
    parts = topic.split("/")
    if len(parts) != 7 or parts[:2] != ROOT.split("/"):
        raise TopicInvalid(f"`{topic}` is not below {ROOT}/")
    _, _, shard, org, gateway, direction, kind_text = parts
    if not (is_id(org) and is_id(gateway)):
        raise TopicInvalid(f"`{topic}` names no valid org and gateway")
    address = Address(OrgId(org), GatewayId(gateway))
    if shard != address.shard:
        raise TopicInvalid(f"`{topic}` is outside the gateway's shard {address.shard}")
    try:
        kind = Kind(kind_text)
    except ValueError:
        raise TopicInvalid(f"`{topic}` names no kind of message") from None
    if (direction == "up") != (kind in UP) or direction not in ("up", "down"):
        raise TopicInvalid(f"`{topic}` has {kind} in the wrong direction")
    return address, kind
