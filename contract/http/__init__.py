"""Bodies of the HTTP API under `/api/v1`, for server and client alike.

Times are RFC 3339 in UTC, durations milliseconds with a name ending in `_ms`. Fields are only ever
added, so a client ignores those it does not know.
"""

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

T = TypeVar("T")


class Body(BaseModel):
    # Most programs use few of these models, so each is built when it is first used.
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class Page(Body, Generic[T]):
    """A page of a list. `next_cursor` is opaque, bound to its list, and null on the last one."""

    items: list[T]
    next_cursor: str | None = None
