"""What devices were like over time."""

from datetime import datetime

from pydantic import Field, JsonValue

from contract.http import Body


class Sample(Body):
    """What was seen of a device at a time: the values that were stored then, not all it has.

    `source` is `gateway`, or `cloud` for what a step recorded.
    """

    at: datetime
    link: str = "unknown"
    values: dict[str, JsonValue] = Field(default_factory=dict)
    source: str = "gateway"
