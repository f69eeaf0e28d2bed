"""Certificates on both databases: given once for a call, to the task's own device, and recorded."""

import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from cloud.coordinator import calls, certificates
from cloud.coordinator.calls import CallRefused
from cloud.coordinator.secrets import Vault, new_key
from cloud.errors import Invalid
from cloud.storage.views import certificates as views
from contract.messages import Call
from tests.integration.storage.world import VERBS, snapshot

pytestmark = pytest.mark.row("A12", "E7")
VAULT = Vault(new_key(b"k" * 32))
SIGN = {"id": "sign", "uses": "certificate.sign"}
COMMIT = {"id": "commit", "uses": "certificate.commit"}
KEY = ec.generate_private_key(ec.SECP256R1())


def csr(common="pump-1", key=KEY):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    request = x509.CertificateSigningRequestBuilder(name).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM).decode()


@pytest.fixture
def ask(world):
    """Ask the cloud as the task of a run that signs and commits would."""
    world.create_gateway("north")
    verbs = [*VERBS, "certificate.sign", "certificate.commit"]
    session = world.hello("north", ["pump-1"], verbs=verbs).session
    world.start_new(steps=[SIGN, COMMIT])
    world.dispatch()
    (offered,) = world.send()["north"]
    world.report("north", snapshot(offered, "running", 1))

    def asking(verb, key="k-1", vault=VAULT, **body):
        call = Call(
            session=session, key=key, body=body, task=offered.task, attempt=offered.attempt,
            step=verb, verb=f"certificate.{verb}",
        )  # fmt: skip
        new_id = lambda: f"run-{next(world.numbers)}"  # noqa: E731
        address = world.address("north")
        return world.run_now(calls.serve, address, call, world.now, new_id, vault).result

    return asking


def listed(world, device="pump-1", **options):
    return world.database.read_now(views.list_certificates, world.caller.org, device, **options)


def test_the_same_call_gives_the_same_certificate(world, ask):
    asked = csr()
    first, again = ask("sign", csr=asked, days=30), ask("sign", csr=asked, days=30)
    assert first == again
    (row,) = listed(world).items
    assert (row.serial, row.fingerprint) == (first["serial"], first["fingerprint"])
    assert (row.not_after - row.issued_at).days == 30
    assert (row.step, row.committed_at) == ("sign", None)
    assert ask("sign", key="k-2", csr=asked)["serial"] != first["serial"]


def test_a_commit_retires_what_came_before(world, ask):
    one = ask("sign", key="k-1", csr=csr())
    ask("commit", key="c-1", fingerprint=one["fingerprint"])
    world.now += 1000
    two = ask("sign", key="k-2", csr=csr())
    assert ask("commit", key="c-2", fingerprint=two["fingerprint"])["retired"] == 1
    new, old = listed(world).items
    assert (new.serial, new.retired_at) == (two["serial"], None)
    assert old.retired_at == new.committed_at
    state = json.loads(world.sql("SELECT state FROM devices")[0][0])["certificate"]
    assert state == {name: two[name] for name in ("serial", "fingerprint", "not_after")}
    page = listed(world, limit=1)
    assert page.items == [new]
    assert listed(world, limit=1, cursor=page.next_cursor).items == [old]
    with pytest.raises(Invalid):
        listed(world, device="pump-2", cursor=page.next_cursor)


def test_a_refused_request_leaves_nothing(world, ask):
    for asked in (csr("pump-2"), "nonsense", ""):
        with pytest.raises(CallRefused) as refused:
            ask("sign", csr=asked)
        assert refused.value.code == "csr_refused"
    for days in (0, 826, "many", "{{ 1 }}"):
        with pytest.raises(CallRefused) as refused:
            ask("sign", csr=csr(), days=days)
        assert refused.value.code == "step_invalid"
    with pytest.raises(CallRefused, match="certificate feed"):
        ask("commit", fingerprint="feed")
    assert listed(world).items == []
    assert world.sql("SELECT key FROM calls") == []


def test_an_org_has_one_ca_and_its_key_is_sealed(world, ask):
    org, now = world.caller.org, world.now
    signed = ask("sign", csr=csr())
    shown = world.run_now(certificates.authority, org, VAULT, now)
    assert shown.certificate == signed["chain"]
    assert world.run_now(certificates.authority, org, VAULT, now + 1) == shown
    other = world.run_now(certificates.authority, "other", VAULT, now)
    assert other.fingerprint != shown.fingerprint
    for table in ("authorities", "certificates", "calls", "run_log"):
        assert "PRIVATE" not in str(world.sql(f"SELECT * FROM {table}"))
    (sealed,) = world.sql(f"SELECT sealed_key FROM authorities WHERE org = '{org}'")
    assert "BEGIN PRIVATE KEY" in str(VAULT.open(sealed[0]))
    with pytest.raises(CallRefused, match="another secrets key"):
        ask("sign", key="k-9", csr=csr(), vault=Vault(new_key(b"x" * 32)))
