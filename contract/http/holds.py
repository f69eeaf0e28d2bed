"""Holds: nothing new starts on what is held, whatever a job says."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from contract.durations import Duration
from contract.http import Body

HoldKind = Literal["org", "site", "gateway", "device"]


class SetHold(Body):
    """Why, and for how long; without `lasts` until a person lifts it."""

    reason: str = Field(default="", max_length=1024)
    lasts: Duration | None = None


class Hold(Body):
    """`id` is that of the gateway or device, the value of the tag `site`, or `all` for the org."""

    kind: HoldKind
    id: str
    reason: str = ""
    until: datetime | None = None
    by: str = ""
    at: datetime
