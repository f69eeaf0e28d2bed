"""Tables of the CAs of orgs, and of the certificates they have given to devices."""

from typing import Any, ClassVar

from sqlalchemy import BigInteger, Index, Text
from sqlmodel import Field, SQLModel


def _big(**options: Any) -> Any:
    return Field(sa_type=BigInteger, **options)


class AuthorityRow(SQLModel, table=True):
    """An org's CA. Its key is sealed as named secrets are."""

    __tablename__: ClassVar[Any] = "authorities"
    org: str = Field(primary_key=True)
    certificate: str = Field(sa_type=Text)
    sealed_key: str = Field(sa_type=Text)
    created_at: int = _big()


class CertificateRow(SQLModel, table=True):
    """A certificate that was given; the certificate itself stands in the result of its call."""

    __tablename__: ClassVar[Any] = "certificates"
    __table_args__ = (
        Index("certificates_by_device", "org", "device", "issued_at"),
        Index("certificates_by_fingerprint", "org", "fingerprint"),
    )
    org: str = Field(primary_key=True)
    serial: str = Field(primary_key=True)
    device: str
    fingerprint: str
    not_before: int = _big()
    not_after: int = _big()
    issued_at: int = _big()
    committed_at: int | None = _big(default=None)
    retired_at: int | None = _big(default=None)
    revoked_at: int | None = _big(default=None)
    run: str = ""
    ordinal: int = 0
    attempt: int = 0
    step: str = ""
