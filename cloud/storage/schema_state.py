"""Tables of what devices were like over time: samples, and how far each stream of them has come."""

from typing import Any, ClassVar

from sqlalchemy import BigInteger, Index, Text
from sqlmodel import Field, SQLModel


def _big(**options: Any) -> Any:
    return Field(sa_type=BigInteger, **options)


class DeviceSampleRow(SQLModel, table=True):
    """What was seen of a device at a time, values by name as JSON.

    `at` is the gateway's clock, put right by the cloud's where it is far off. Read by device and
    time, which is the key; swept by org and time. `number` tells samples of one millisecond apart.
    """

    __tablename__: ClassVar[Any] = "device_samples"
    __table_args__ = (Index("device_samples_by_time", "org", "at"),)
    org: str = Field(primary_key=True)
    device: str = Field(primary_key=True)
    at: int = Field(sa_type=BigInteger, primary_key=True)
    source: str = Field(primary_key=True)
    number: int = Field(sa_type=BigInteger, primary_key=True)
    link: str = "unknown"
    state: str = Field(default="{}", sa_type=Text)


class SampleStreamRow(SQLModel, table=True):
    """Up to which number the samples of a stream of a journal are stored.

    A gateway sends a stream in order, so a number that is not higher is a copy.
    """

    __tablename__: ClassVar[Any] = "sample_streams"
    journal: str = Field(primary_key=True)
    stream: str = Field(primary_key=True)
    number: int = _big(default=0)


class SampleCountRow(SQLModel, table=True):
    """How many samples of an org are kept: counted here, so that nobody counts the rows."""

    __tablename__: ClassVar[Any] = "sample_counts"
    org: str = Field(primary_key=True)
    kept: int = _big(default=0)
