"""Our CA signs one name, for a client, for as long as it was asked; anything else it refuses."""

import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store
from hypothesis import given
from hypothesis import strategies as st

from cloud.certificates.base import CsrRefused, Name
from cloud.certificates.own_ca import MAX_CSR_BYTES, OwnCa, make_root

NOW = 1_800_000_000_000
NAME = Name("default", "pump-1")
URI = "urn:roundsman:device:default:pump-1"
KEY = ec.generate_private_key(ec.SECP256R1())
ROOT = make_root("default", NOW)
CA = OwnCa(ROOT)


def csr(*extensions, key=KEY, names=(), common="pump-1"):
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common)] if common else []
    attributes += [x509.NameAttribute(oid, value) for oid, value in names]
    builder = x509.CertificateSigningRequestBuilder(x509.Name(attributes))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(Encoding.PEM).decode()


def sign(text, name=NAME, days=30):
    signed = CA.sign(text, name, days, NOW)
    return signed, x509.load_pem_x509_certificate(signed.certificate.encode())


@given(days=st.integers(1, 825), common=st.sampled_from(["", "pump-1", "default/pump-1"]))
def test_a_certificate_holds_our_name_our_time_and_the_devices_key(days, common):
    signed, found = sign(csr(common=common), days=days)
    assert found.public_key() == KEY.public_key()
    assert found.subject.rfc4514_string() == "CN=default/pump-1"
    assert found.serial_number == int(signed.serial, 16)
    now = datetime.fromtimestamp(NOW / 1000, UTC)
    assert found.not_valid_after_utc == now + timedelta(days=days)
    assert found.not_valid_before_utc <= now
    root = x509.load_pem_x509_certificate(signed.chain.encode())
    policy = PolicyBuilder().store(Store([root])).time(now).build_client_verifier()
    subjects = policy.verify(found, []).subjects
    assert [one.value for one in subjects] == [URI]


def test_what_a_request_asks_for_beside_its_key_is_left_out():
    asked = csr(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier(URI)]),
        x509.OCSPNoCheck(),
        names=[(NameOID.ORGANIZATION_NAME, "Somebody Else")],
    )
    _, found = sign(asked)
    assert found.subject.rfc4514_string() == "CN=default/pump-1"
    uses = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    with pytest.raises(x509.ExtensionNotFound):
        found.extensions.get_extension_for_class(x509.OCSPNoCheck)


def test_keys_of_the_usual_kinds_are_signed():
    for key in (
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ):
        assert sign(csr(key=key))[1].public_key() == key.public_key()


DNS = x509.SubjectAlternativeName([x509.DNSName("*.example.com")])
OTHER = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(URI + "0")])


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (csr(common="pump-2"), "for `pump-2`; this device is `default/pump-1`"),
        (csr(common="other/pump-1"), "for `other/pump-1`"),
        (csr(names=[(NameOID.COMMON_NAME, "pump-2")]), "pump-2"),
        (csr(DNS), r"\*.example.com"),
        (csr(OTHER), "pump-10"),
        (csr(x509.BasicConstraints(ca=True, path_length=None)), "for a CA"),
        (csr(key=rsa.generate_private_key(65537, 1024)), "none of EC P-256"),
        (csr(key=ec.generate_private_key(ec.SECP521R1())), "none of EC P-256"),
        ("", "not a certificate request"),
        ("nonsense", "not a certificate request"),
        (ROOT.certificate, "not a certificate request"),
        ("x" * (MAX_CSR_BYTES + 1), "larger than"),
    ],
)
def test_other_requests_are_refused_with_the_reason(asked, why):
    with pytest.raises(CsrRefused, match=why):
        sign(asked)


def test_a_request_signed_by_another_key_is_refused():
    """The last byte of its signature is another one."""
    request = x509.load_pem_x509_csr(csr().encode())
    der = bytearray(request.public_bytes(Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM).decode()
    with pytest.raises(CsrRefused, match="not signed by the key"):
        sign(forged)


def test_a_name_too_long_for_a_certificate_is_refused():
    with pytest.raises(CsrRefused, match="64 characters"):
        sign(csr(common=""), Name("default", "p" * 60))


def test_a_certificate_never_outlives_its_ca():
    late = NOW + 20 * 365 * 86_400_000 - 5 * 86_400_000
    signed = CA.sign(csr(), NAME, 90, late)
    root = x509.load_pem_x509_certificate(ROOT.certificate.encode())
    assert signed.not_after == int(root.not_valid_after_utc.timestamp() * 1000)
    with pytest.raises(CsrRefused, match="expired"):
        CA.sign(csr(), NAME, 90, late + 10 * 86_400_000)


def test_openssl_agrees(tmp_path):
    signed, _ = sign(csr())
    (tmp_path / "ca.pem").write_text(signed.chain)
    (tmp_path / "device.pem").write_text(signed.certificate)
    words = ["openssl", "verify", "-x509_strict", "-purpose", "sslclient"]
    words += ["-attime", str(NOW // 1000), "-CAfile", "ca.pem", "device.pem"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
