"""Certificates of devices: the org's CA, made at first use, signs; what it gave is recorded.

The CA's key is sealed like named secrets and opened for one signature at a time.
"""

from datetime import UTC, datetime

from pydantic import JsonValue

from cloud.certificates import own_ca
from cloud.certificates.base import Name, Signed
from cloud.coordinator.secrets import Vault
from cloud.errors import Conflict, NotFound, StorageUnavailable
from cloud.storage import certificates as stored
from cloud.storage import samples
from cloud.storage.database import Session
from cloud.storage.json_text import clean
from contract.http.certificates import Authority


def authority(session: Session, org: str, vault: Vault, now: int) -> Authority:
    """The org's CA, made if there was none. Raises Conflict when its key cannot be opened."""
    root = _root(session, org, vault, now)
    subject, fingerprint, not_after = own_ca.facts_of(root.certificate)
    return Authority(
        certificate=root.certificate, subject=subject, fingerprint=fingerprint, not_after=not_after
    )


def sign(
    session: Session,
    vault: Vault,
    name: Name,
    csr: str,
    days: int,
    now: int,
    *,
    run: str,
    ordinal: int,
    attempt: int,
    step: str,
) -> Signed:
    """Sign a device's request and record the certificate. Raises CsrRefused and Conflict."""
    ca = own_ca.OwnCa(_root(session, name.org, vault, now))
    signed = ca.sign(csr, name, days, now)
    stored.keep(
        session,
        {"org": name.org, "serial": signed.serial, "device": name.device,
         "fingerprint": signed.fingerprint, "not_before": signed.not_before,
         "not_after": signed.not_after, "issued_at": now, "run": run, "ordinal": ordinal,
         "attempt": attempt, "step": clean(step)},
    )  # fmt: skip
    return signed


def commit(session: Session, org: str, device: str, fingerprint: str, now: int) -> tuple[str, int]:
    """A device keeps this certificate: its serial, and how many others are retired with that.

    Raises NotFound for one that the org's CA never gave to the device.
    """
    found = stored.given(session, org, device, fingerprint)
    if found is None:
        raise NotFound(f"certificate {fingerprint} of device `{device}`")
    serial, not_after = found
    state: JsonValue = {
        "serial": serial,
        "fingerprint": fingerprint,
        "not_after": moment(not_after),
    }
    samples.record(session, org, device, {"certificate": state}, now)
    return serial, stored.commit(session, org, device, serial, now)


def moment(millis: int) -> str:
    """As results and states show it: RFC 3339, in UTC."""
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat()


def _root(session: Session, org: str, vault: Vault, now: int) -> own_ca.Root:
    row = stored.authority(session, org)
    if row is None:
        made = own_ca.make_root(org, now)
        values = {"org": org, "certificate": made.certificate, "created_at": now}
        stored.keep_authority(session, {**values, "sealed_key": vault.seal(made.key)})
        row = stored.authority(session, org)
    if row is None:
        raise StorageUnavailable("the CA is being made by another process")
    key = vault.open(row.sealed_key)
    if key is None:
        raise Conflict("conflict", "the CA's key was sealed with another secrets key")
    return own_ca.Root(row.certificate, key)
