"""A CA of our own: one root for each org, an EC P-256 key, and nothing but what we put in.

A request brings a key and the proof that its sender holds it. Name, validity and use are ours:
what else the request asks for is left out, and what asks for more than it may have is refused.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloud.certificates.base import CsrRefused, Name, Signed

ROOT_DAYS: Final = 20 * 365
# Clocks of devices are behind as often as before; a certificate of tomorrow would be no help.
BACKDATED: Final = timedelta(hours=1)
MAX_CSR_BYTES: Final = 16_384
# X.509 gives a common name no more (ub-common-name).
MAX_COMMON_NAME: Final = 64
RSA_BITS: Final = range(2048, 4097)


@dataclass(frozen=True)
class Root:
    """A CA's certificate and private key, both PEM."""

    certificate: str
    key: str


def make_root(org: str, now: int) -> Root:
    """Make a CA with a fresh key. `now` is milliseconds since 1970."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Roundsman CA {org}"[:64])])
    starts = _moment(now) - BACKDATED
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(starts)
        .not_valid_after(starts + timedelta(days=ROOT_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Root(_pem(built), private.decode())


class OwnCa:
    """Signs with a root. Raises ValueError for a root that is none."""

    def __init__(self, root: Root) -> None:
        self._pem = root.certificate
        self._certificate = x509.load_pem_x509_certificate(root.certificate.encode())
        key = serialization.load_pem_private_key(root.key.encode(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey), "we have made it"
        self._key = key

    def sign(self, csr: str, name: Name, days: int, now: int) -> Signed:
        """A client certificate for `name`, never longer than the root. Raises CsrRefused."""
        public_key = checked_key(csr, name)
        starts = _moment(now) - BACKDATED
        ends = min(_moment(now) + timedelta(days=days), self._certificate.not_valid_after_utc)
        if ends <= _moment(now):
            raise CsrRefused("the CA's own certificate has expired")
        common_name = x509.NameAttribute(NameOID.COMMON_NAME, name.common_name)
        own = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        built = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([common_name]))
            .issuer_name(self._certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(starts)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name.uri)]),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        return Signed(
            certificate=_pem(built),
            chain=self._pem,
            serial=f"{built.serial_number:x}",
            fingerprint=fingerprint_of(built),
            not_before=_millis(built.not_valid_before_utc),
            not_after=_millis(built.not_valid_after_utc),
        )


Key = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey


def checked_key(csr: str, name: Name) -> Key:
    """The key of a request that may be signed for `name`. Raises CsrRefused."""
    if len(name.common_name) > MAX_COMMON_NAME:
        raise CsrRefused(f"`{name.common_name}` is longer than the 64 characters of a name")
    try:
        request = x509.load_pem_x509_csr(csr.encode()) if len(csr) <= MAX_CSR_BYTES else None
        if request is None:
            raise CsrRefused(f"the request is larger than {MAX_CSR_BYTES} bytes")
        key = request.public_key()
        is_proven = request.is_signature_valid
        extensions = request.extensions
        names = [str(attribute.value) for attribute in request.subject]
        common = [a.value for a in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise CsrRefused(f"not a certificate request: {error}"[:500]) from error
    except x509.DuplicateExtension as error:
        raise CsrRefused("the request holds an extension twice") from error
    if not is_proven:
        raise CsrRefused("the request is not signed by the key it is for")
    if any(text not in (name.common_name, name.device) for text in map(str, common)):
        asked = ", ".join(names)[:200]
        raise CsrRefused(f"the request is for `{asked}`; this device is `{name.common_name}`")
    _check_extensions(extensions, name)
    return _strong(key)


def _check_extensions(extensions: x509.Extensions, name: Name) -> None:
    for extension in extensions:
        match extension.value:
            case x509.SubjectAlternativeName() as names:
                others = [str(one.value) for one in names if not _is_ours(one, name)]
                if others:
                    text = ", ".join(others)[:200]
                    raise CsrRefused(f"the request names `{text}`, which this device is not")
            case x509.BasicConstraints(ca=True):
                raise CsrRefused("the request is for a CA")


def _is_ours(one: x509.GeneralName, name: Name) -> bool:
    return isinstance(one, x509.UniformResourceIdentifier) and one.value == name.uri


def _strong(key: object) -> Key:
    match key:
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1() | ec.SECP384R1()):
            return key
        case ed25519.Ed25519PublicKey():
            return key
        case rsa.RSAPublicKey() if key.key_size in RSA_BITS:
            return key
    raise CsrRefused("the key is none of EC P-256 and P-384, Ed25519, RSA of 2048 to 4096 bits")


def fingerprint_of(certificate: x509.Certificate) -> str:
    return sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def facts_of(pem: str) -> tuple[str, str, datetime]:
    """Subject, fingerprint and end of a PEM certificate."""
    found = x509.load_pem_x509_certificate(pem.encode())
    return found.subject.rfc4514_string(), fingerprint_of(found), found.not_valid_after_utc


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _moment(millis: int) -> datetime:
    # X.509 counts whole seconds
    return datetime.fromtimestamp(millis // 1000, UTC)


def _millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
