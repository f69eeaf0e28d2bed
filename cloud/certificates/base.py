"""What every CA offers: it signs a request for exactly one name, or says why not."""

from dataclasses import dataclass
from typing import Protocol


class CsrRefused(Exception):
    """The request will not be signed; the text is for whoever wrote the job."""


@dataclass(frozen=True)
class Name:
    """Whom a certificate is for; `{org}/{device}` is its common name."""

    org: str
    device: str

    @property
    def common_name(self) -> str:
        return f"{self.org}/{self.device}"

    @property
    def uri(self) -> str:
        """The same as an alternative name, which verifiers look at first."""
        return f"urn:roundsman:device:{self.org}:{self.device}"


@dataclass(frozen=True)
class Signed:
    """A certificate that was given. Times are milliseconds since 1970, texts PEM or hex.

    `fingerprint` is the sha256 of its DER, `chain` the certificates above it.
    """

    certificate: str
    chain: str
    serial: str
    fingerprint: str
    not_before: int
    not_after: int


class Signer(Protocol):
    """One CA."""

    def sign(self, csr: str, name: Name, days: int, now: int) -> Signed:
        """Sign a PEM request. Raises CsrRefused."""
        ...
