"""Every verb this gateway performs, by its name."""

from collections.abc import Mapping
from typing import Final

from gateway.actions import (
    certificate,
    device,
    firmware,
    fleet,
    flow,
    http,
    mqtt,
    notify,
    sql,
)
from gateway.actions.base import Action
from gateway.errors import StepInvalid

ACTIONS: Final[Mapping[str, Action]] = {
    **certificate.ACTIONS,
    **device.ACTIONS,
    **firmware.ACTIONS,
    **fleet.ACTIONS,
    **flow.ACTIONS,
    **http.ACTIONS,
    **mqtt.ACTIONS,
    **notify.ACTIONS,
    **sql.ACTIONS,
}
# What the gateway's hello tells the cloud.
VERBS: Final = tuple(sorted(ACTIONS))


def action_for(uses: str) -> Action:
    """The action of a verb. Raises StepInvalid (`verb_unknown`)."""
    try:
        return ACTIONS[uses]
    except KeyError:
        raise StepInvalid(f"this gateway does not know `{uses}`", "verb_unknown") from None
