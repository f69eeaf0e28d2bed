"""The CA of an org, and the certificates it has given to devices."""

from datetime import datetime

from pydantic import Field

from contract.http import Body


class Authority(Body):
    """The CA that signs for an org's devices: what a server has to trust."""

    certificate: str = Field(description="PEM")
    subject: str
    fingerprint: str = Field(description="sha256 of the DER, in hex")
    not_after: datetime


class Certificate(Body):
    """A certificate of a device. It is in use from `committed_at` to `retired_at`.

    One that was never committed stands beside; the device may have gone back to the one before.
    """

    serial: str = Field(description="in hex")
    device: str
    fingerprint: str = Field(description="sha256 of the DER, in hex")
    not_before: datetime
    not_after: datetime
    issued_at: datetime
    committed_at: datetime | None = None
    retired_at: datetime | None = None
    revoked_at: datetime | None = None
    run: str = ""
    task: str = ""
    step: str = ""
