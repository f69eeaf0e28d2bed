"""A device makes its key, the cloud signs, the device connects, commits, or goes back."""

import subprocess

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from contract.lifecycle import TASK_ENDS
from tests.kit.rig_site import mqtt, smp
from tests.kit.waiting import wait_until

pytestmark = pytest.mark.row("A12", "E7")
VERBS = ["request", "sign", "install", "verify", "commit"]


def rotate(job_id="rotate", **fields):
    step = {"uses": "certificate.rotate", "with": fields.pop("with_", {"days": 30})}
    fields.setdefault("steps", [step])
    return {
        "name": job_id, "id": job_id, "type": "certificate", "retry": {"attempts": 1},
        "iteration": {"timeout": "60s", "concurrency": 5}, **fields,
    }  # fmt: skip


def held(rig, device):
    """What the device's certificate slot really holds."""
    return rig.truth(device)["certificates"]["0"]


def check_chain(folder, ca, certificate):
    """As a server would: with `cryptography`, and with openssl."""
    found = x509.load_pem_x509_certificate(certificate.encode())
    root = x509.load_pem_x509_certificate(ca.encode())
    PolicyBuilder().store(Store([root])).build_client_verifier().verify(found, [])
    (folder / "ca.pem").write_text(ca)
    (folder / "device.pem").write_text(certificate)
    words = ["openssl", "verify", "-purpose", "sslclient", "-CAfile", "ca.pem", "device.pem"]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    return found


def test_every_device_ends_with_a_certificate_of_its_own(rig, tmp_path):
    rig.add_gateway("north", [smp("pump-1"), mqtt("meter-1")])
    run = rig.start(rotate())
    rig.finish(run)
    ca = rig.client.ca.show().certificate
    for device in ("pump-1", "meter-1"):
        steps = rig.steps(run, device)
        assert list(steps) == VERBS
        truth, signed = held(rig, device), steps["sign"].result
        assert truth["active"] == truth["in_use"] == signed["fingerprint"]
        assert (truth["pending"], truth["keys_made"]) == ("", 1)
        assert truth["certificate"] == signed["certificate"]
        found = check_chain(tmp_path, ca, truth["certificate"])
        assert found.subject.rfc4514_string() == f"CN=default/{device}"
        csr = x509.load_pem_x509_csr(steps["request"].result["csr"].encode())
        assert csr.public_key() == found.public_key()
        assert "PRIVATE" not in str(steps)
        (row,) = rig.client.devices.certificates(device)
        assert (row.serial, row.fingerprint) == (signed["serial"], signed["fingerprint"])
        assert row.committed_at is not None and row.retired_at is None
        assert row.task == rig.task(run, device).id

    soon = {"query": 'state.certificate.not_after<"2100" AND type:device'}
    again = rig.start(rotate("renew", targets=soon))
    rig.finish(again)
    new, old = rig.client.devices.certificates("pump-1")
    assert held(rig, "pump-1")["active"] == new.fingerprint != old.fingerprint
    assert (new.retired_at, old.retired_at is not None) == (None, True)
    assert rig.steps(again, "pump-1")["commit"].result["previous"] == old.fingerprint
    assert new.serial in rig.cli("devices", "certificates", "pump-1", "-o", "json").tail()
    assert rig.cli("ca", "show", "--pem").tail().strip() == ca.strip()


def is_at(step):
    """The step is under way, or is over already: a busy machine looks late."""
    rest = VERBS[VERBS.index(step) :]
    return lambda task: task.current_step in rest or task.status in TASK_ENDS


def check_only_one(rig, run, device):
    task = rig.task(run, device)
    assert (task.attempt, task.tries) == (1, 1)
    (row,) = rig.client.devices.certificates(device)
    truth = held(rig, device)
    assert truth["active"] == truth["in_use"] == row.fingerprint
    assert truth["keys_made"] == 1
    assert row.committed_at is not None


def test_a_gateway_killed_twice_on_its_way_leaves_exactly_one_new_certificate(rig):
    site = rig.add_gateway("north", [smp("pump-1", turnaround="100ms")])
    run = rig.start(rotate())
    for step in ("request", "install"):
        rig.wait_for_task(run, "pump-1", is_at(step), step)
        site.restart()
    rig.finish(run)
    check_only_one(rig, run, "pump-1")


def test_a_gateway_killed_while_it_asks_the_cloud_is_given_one_certificate(rig):
    site = rig.add_gateway("north", [smp("pump-1", turnaround="100ms")], uplink=True)
    run = rig.start(rotate())
    rig.wait_for_task(run, "pump-1", is_at("request"), "request")
    site.uplink.cut()
    wait_until(lambda: rig.truth("pump-1")["certificates"], 30, "the key")
    site.kill_9()
    site.uplink.restore()
    site.start()
    rig.wait_for_task(run, "pump-1", is_at("sign"), "sign")
    rig.restart_cloud()
    rig.finish(run)
    check_only_one(rig, run, "pump-1")


def test_a_request_for_another_device_is_refused(rig):
    rig.add_gateway("north", [smp("pump-1"), mqtt("meter-1")])
    run = rig.start(rotate(with_={"subject": "default/pump-9"}))
    rig.finish(run, "failed")
    for device in ("pump-1", "meter-1"):
        failure = rig.task(run, device).failure
        assert (failure.code, failure.step) == ("csr_refused", "sign")
        assert "`default/pump-9`" in failure.text and f"`default/{device}`" in failure.text
        truth = held(rig, device)
        assert truth["active"] == truth["in_use"] != ""
        assert list(rig.client.devices.certificates(device)) == []


@pytest.mark.parametrize("fault", ["fails", "ignored"])
def test_a_device_that_cannot_use_the_new_certificate_keeps_the_old_one(rig, fault):
    faults = {"new_certificate": fault}
    rig.add_gateway("north", [smp("pump-1", faults=faults), mqtt("meter-1", faults=faults)])
    with_time = {"uses": "certificate.rotate", "timeout": "4s"}
    run = rig.start(rotate(steps=[with_time]))
    rig.finish(run, "failed")
    for device in ("pump-1", "meter-1"):
        failure = rig.task(run, device).failure
        assert (failure.code, failure.step) == ("certificate_not_used", "verify")
        assert ("the server did not accept" in failure.text) is (fault == "fails")
        steps, truth = rig.steps(run, device), held(rig, device)
        assert truth["active"] == truth["in_use"] != steps["sign"].result["fingerprint"]
        kept = x509.load_pem_x509_certificate(truth["certificate"].encode())
        assert kept.issuer.rfc4514_string() == "CN=factory"
        (row,) = rig.client.devices.certificates(device)
        assert row.committed_at is None


def test_what_was_not_committed_ends_with_a_restart(rig):
    rig.add_gateway("north", [smp("pump-1")])
    verbs = [{"uses": f"certificate.{verb}"} for verb in VERBS[:4]]
    back = [{"uses": "device.reset"}, {"uses": "device.wait"}, {"uses": "certificate.commit"}]
    run = rig.start(rotate(steps=[*verbs, *back]))
    rig.finish(run, "failed")
    failure = rig.task(run, "pump-1").failure
    assert (failure.code, failure.step) == ("certificate_not_used", "commit")
    assert "restarted before it was committed" in failure.text
    verified, truth = rig.steps(run, "pump-1")["verify"].result, held(rig, "pump-1")
    assert truth["in_use"] == truth["active"] == verified["active"] != verified["in_use"]
