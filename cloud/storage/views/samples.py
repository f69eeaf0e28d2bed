"""A device's samples by time, in pages that cost the same however rare the wanted keys are."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from sqlalchemy import Row

from cloud.storage.database import Session
from cloud.storage.dialect import fetch
from cloud.storage.views import cursors, devices
from cloud.storage.views.parts import bounded, moment
from contract.http import Page
from contract.http.state import Sample
from contract.periods import Period

Order = Literal["oldest", "newest"]
# So many rows are looked at for one page: it may then hold less than was asked for.
LOOKED_AT: Final = 2_000
CHUNK: Final = 1_000
# Before the first sample and after the last one.
_FIRST: Final = (-1, "", -(2**62))
_LAST: Final = (2**62, "", 0)


@dataclass(frozen=True)
class Wanted:
    """Which samples: of a device, in a period, with any of these keys (all, if there are none)."""

    device: str
    period: Period = field(default_factory=Period)
    keys: frozenset[str] = frozenset()
    # The period as it was asked for: `2h` until now begins later with each page.
    words: tuple[str | None, ...] | None = None

    @property
    def filters(self) -> Sequence[Any]:
        period = (self.period.start, self.period.end) if self.words is None else self.words
        return self.device, period, sorted(self.keys)


def list_samples(
    session: Session,
    org: str,
    wanted: Wanted,
    *,
    order: Order = "oldest",
    cursor: str | None = None,
    limit: int = 100,
) -> Page[Sample]:
    """A page of samples; it may hold fewer than `limit`, even none, and have a next one.

    Raises NotFound for the device.
    """
    devices.get_device(session, org, wanted.device)
    filters = cursors.fingerprint("samples", org, order, *wanted.filters)
    after = cursors.decode(cursor, filters, int, str, int)
    limit = bounded(limit)
    most = LOOKED_AT if wanted.keys else limit
    rows = _rows(session, org, wanted, tuple(after or ()), most + 1, order)
    found: list[Sample] = []
    last: Row[Any] | None = None
    for row in rows[:most]:
        last = row
        values = _values(row, wanted.keys)
        if values or not wanted.keys:
            found.append(_sample(row, values))
        if len(found) == limit:
            break
    more = last is not None and last is not rows[-1]
    return Page(
        items=found,
        next_cursor=cursors.encode([last.at, last.source, last.number], filters)
        if more and last is not None
        else None,
    )


Place = tuple[int, str, int]


def values_after(
    session: Session, org: str, wanted: Wanted, after: Place | None = None
) -> tuple[list[list[object]], Place | None]:
    """The next values as (at, key, value), and where to go on; None at the end.

    Raises NotFound for the device.
    """
    if after is None:
        devices.get_device(session, org, wanted.device)
    rows = _rows(session, org, wanted, after or (), CHUNK, "oldest")
    found = [list(one) for row in rows for one in _cells(row, wanted.keys)]
    if len(rows) < CHUNK:
        return found, None
    return found, (rows[-1].at, rows[-1].source, rows[-1].number)


def _cells(row: Row[Any], keys: Collection[str]) -> Iterator[tuple[object, str, object]]:
    for key, value in _values(row, keys).items():
        yield moment(row.at), key, value


def _rows(
    session: Session, org: str, wanted: Wanted, after: Sequence[Any], limit: int, order: Order
) -> Sequence[Row[Any]]:
    start, end = wanted.period.start, wanted.period.end
    sign, way = (">", "") if order == "oldest" else ("<", " DESC")
    at, source, number = after or (_FIRST if order == "oldest" else _LAST)
    return fetch(
        session,
        "SELECT at, source, number, link, state FROM device_samples WHERE org = :org "
        "AND device = :device AND at >= :start AND at < :end "
        f"AND (at, source, number) {sign} (:at, :source, :number) "
        f"ORDER BY at{way}, source{way}, number{way} LIMIT :limit",
        org=org,
        device=wanted.device,
        start=0 if start is None else start,
        end=2**60 if end is None else end,
        at=at,
        source=source,
        number=number,
        limit=limit,
    )


def _values(row: Row[Any], keys: Collection[str]) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(row.state)
    return {key: value for key, value in values.items() if key in keys} if keys else values


def _sample(row: Row[Any], values: dict[str, Any]) -> Sample:
    source = "cloud" if row.source.startswith("cloud-") else "gateway"
    return Sample(at=moment(row.at), link=row.link, values=values, source=source)
