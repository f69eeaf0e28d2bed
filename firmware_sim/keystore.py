"""A device's keys and certificates: real ones, made and checked with `cryptography`.

A slot holds the certificate that is kept, and beside it the key, request and certificate that may
take its place. What is on trial and was not committed is no longer in use after a boot.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from firmware_sim.faults import NewCertificate

SLOTS: Final = 4
NO_SLOT: Final = 2
OTHER_KEY: Final = 3
NO_CERTIFICATE: Final = 4
NOT_OF_KEY: Final = 5
BAD_CHAIN: Final = 6
NOT_INSTALLED: Final = 7
NOT_IN_USE: Final = 8
# The device has no clock: it believes that a certificate begins when it is handed over.
_MADE: Final = datetime(2025, 1, 1, tzinfo=UTC)
_LASTS: Final = timedelta(days=7300)


class KeystoreRefused(Exception):
    """The device says no; `rc` is the error of our SMP group, the text for people."""

    def __init__(self, rc: int, text: str) -> None:
        super().__init__(text)
        self.rc = rc


@dataclass(frozen=True, slots=True)
class Held:
    """A key pair and, once there is one, its certificate with those above it, as DER."""

    key: ec.EllipticCurvePrivateKey
    request: str = ""
    csr: bytes = b""
    certificate: bytes = b""
    chain: tuple[bytes, ...] = ()

    @property
    def fingerprint(self) -> bytes:
        return sha256(self.certificate).digest() if self.certificate else b""

    @property
    def key_id(self) -> bytes:
        public = self.key.public_key()
        return sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


@dataclass(slots=True)
class Slot:
    """`active` is kept; `pending` waits beside it, and is in use while `on_trial`."""

    active: Held
    pending: Held | None = None
    on_trial: bool = False
    why: str = ""

    @property
    def in_use(self) -> Held:
        return self.pending if self.on_trial and self.pending is not None else self.active


@dataclass(slots=True)
class Keystore:
    """All slots of a device; nothing is made before somebody asks."""

    device: str
    new_certificate: NewCertificate = NewCertificate.CONNECTS
    slots: dict[int, Slot] = field(default_factory=dict)
    keys_made: int = 0

    def slot(self, number: int) -> Slot:
        """The slot, with the certificate the factory put there. Raises KeystoreRefused."""
        if not 0 <= number < SLOTS:
            raise KeystoreRefused(NO_SLOT, f"there is no certificate slot {number}")
        if number not in self.slots:
            self.slots[number] = Slot(_of_the_factory(self.device))
        return self.slots[number]

    def boot(self) -> None:
        for slot in self.slots.values():
            if slot.on_trial:
                slot.on_trial, slot.why = False, "restarted before it was committed"

    def request(self, number: int, request: str, subject: str) -> Held:
        """A fresh key and its CSR; the same request again gives the same. Ends a trial."""
        slot = self.slot(number)
        if slot.pending is None or not request or slot.pending.request != request:
            key = ec.generate_private_key(ec.SECP256R1())
            builder = x509.CertificateSigningRequestBuilder(_name(subject or self.device))
            csr = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
            slot.pending, slot.on_trial, slot.why = Held(key, request, csr), False, ""
            self.keys_made += 1
        return slot.pending

    def install(self, number: int, certificate: bytes, chain: Sequence[bytes]) -> bytes:
        """Put a certificate of the pending key beside the active one; its fingerprint."""
        slot = self.slot(number)
        if slot.pending is None:
            raise KeystoreRefused(OTHER_KEY, "no key was made for a new certificate")
        found, above = _read(certificate), [_read(one) for one in chain]
        if found.public_key() != slot.pending.key.public_key():
            raise KeystoreRefused(NOT_OF_KEY, "the certificate is not of the new key")
        _check_chain(found, above)
        old = slot.pending
        slot.pending = Held(old.key, old.request, old.csr, certificate, tuple(chain))
        slot.why = ""
        return slot.pending.fingerprint

    def test(self, number: int, fingerprint: bytes) -> None:
        """Connect with the new certificate; it stays in use if that works. `why` says why not."""
        slot = self.slot(number)
        if slot.active.fingerprint == fingerprint:
            return
        if slot.pending is None or slot.pending.fingerprint != fingerprint:
            raise KeystoreRefused(NOT_INSTALLED, "no such certificate is installed")
        slot.on_trial = self.new_certificate is NewCertificate.CONNECTS
        failed = self.new_certificate is NewCertificate.FAILS
        slot.why = "the server did not accept the new certificate" if failed else ""

    def commit(self, number: int, fingerprint: bytes) -> None:
        """Keep what is in use for good, and destroy the key and certificate before it."""
        slot = self.slot(number)
        if slot.active.fingerprint == fingerprint:
            return
        if slot.pending is None or slot.pending.fingerprint != fingerprint:
            raise KeystoreRefused(NOT_INSTALLED, "no such certificate is installed")
        if not slot.on_trial:
            raise KeystoreRefused(NOT_IN_USE, "the new certificate is not in use")
        slot.active, slot.pending, slot.on_trial, slot.why = slot.pending, None, False, ""

    def status(self) -> dict[str, object]:
        """What the slots hold, as JSON values; certificates in PEM."""
        return {
            str(number): {
                "active": slot.active.fingerprint.hex(),
                "in_use": slot.in_use.fingerprint.hex(),
                "pending": slot.pending.fingerprint.hex() if slot.pending else "",
                "certificate": pem_of(slot.in_use.certificate),
                "keys_made": self.keys_made,
            }
            for number, slot in self.slots.items()
        }


def pem_of(certificate: bytes) -> str:
    return x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM).decode()


def csr_pem(csr: bytes) -> str:
    return x509.load_der_x509_csr(csr).public_bytes(Encoding.PEM).decode()


def ders_in(pem: str) -> list[bytes]:
    """The certificates in a PEM text. Raises KeystoreRefused."""
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
    except ValueError as error:
        raise KeystoreRefused(NO_CERTIFICATE, "not a certificate in PEM") from error
    return [one.public_bytes(Encoding.DER) for one in found]


def _read(certificate: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(certificate)
    except ValueError as error:
        raise KeystoreRefused(NO_CERTIFICATE, "not a certificate") from error


def _check_chain(certificate: x509.Certificate, above: list[x509.Certificate]) -> None:
    """Up to the last one of the chain, which the device takes as its anchor."""
    if not above:
        raise KeystoreRefused(BAD_CHAIN, "no CA came with the certificate")
    policy = PolicyBuilder().store(Store([above[-1]])).time(certificate.not_valid_before_utc)
    try:
        policy.build_client_verifier().verify(certificate, above[:-1])
    except VerificationError as error:
        raise KeystoreRefused(BAD_CHAIN, f"the chain does not hold: {error}") from error


def _of_the_factory(device: str) -> Held:
    key = ec.generate_private_key(ec.SECP256R1())
    built = (
        x509.CertificateBuilder(_name("factory"), _name(device), key.public_key(), 1)
        .not_valid_before(_MADE)
        .not_valid_after(_MADE + _LASTS)
        .sign(key, hashes.SHA256())
    )
    return Held(key, certificate=built.public_bytes(Encoding.DER))


def _name(common_name: str) -> x509.Name:
    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    except ValueError as error:
        raise KeystoreRefused(NO_CERTIFICATE, "no such name can stand in a request") from error
