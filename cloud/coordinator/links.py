"""Links to a run's report that work without a token, for 7 days from their making.

The signature covers run, format and end; its key is this cloud's and stays in its database.
"""

import hmac
import secrets
from hashlib import sha256
from typing import Final
from urllib.parse import urlencode

from cloud.coordinator.access import Caller
from cloud.errors import Gone, NotPermitted
from cloud.storage import deletions, reports
from cloud.storage import runs as stored_runs
from cloud.storage.database import Session
from cloud.storage.instance import get_instance
from cloud.storage.views import runs as views
from cloud.storage.views.parts import moment
from contract.http.history import ReportLink
from contract.ids import OrgId

LASTS_MS: Final = 7 * 86_400_000


def make_report_link(
    session: Session, caller: Caller, run: str, now: int, address: str
) -> ReportLink:
    """A fresh link to a run's report. Raises NotFound and Gone."""
    views.find(session, caller.org, run)
    link = report_link(session, run, now, address)
    reports.log(session, caller.org, run, now, "report link made", data={"by": caller.name})
    return link


def report_link(session: Session, run: str, now: int, address: str) -> ReportLink:
    """The link itself; `address` is ours as others reach it, empty for a path only."""
    until = now + LASTS_MS
    key = _key(session)

    def url(ending: str) -> str:
        query = urlencode({"until": until, "signature": _signature(key, run, ending, until)})
        return f"{address}/reports/{run}.{ending}?{query}"

    return ReportLink(csv=url("csv"), ndjson=url("ndjson"), expires_at=moment(until))


def org_of_link(
    session: Session, run: str, ending: str, until: int, signature: str, now: int
) -> OrgId:
    """Whose report a link shows. Raises NotPermitted for a false one, Gone for an old one."""
    instance = get_instance(session)
    key = instance.link_key if instance is not None else ""
    if not key or not hmac.compare_digest(
        _signature(key, run, ending, until).encode(), signature.encode()
    ):
        raise NotPermitted("link_invalid", "the link is not one of ours")
    row = stored_runs.get(session, run)
    if now >= until:
        raise Gone("link_expired", "the link has expired; ask for a new one on the run's page")
    if row is None or deletions.is_deleted(session, run):
        raise Gone("deleted", f"run {run} was deleted")
    return OrgId(row.org)


def _signature(key: str, run: str, ending: str, until: int) -> str:
    text = f"{run}|{ending}|{until}"
    return hmac.new(bytes.fromhex(key), text.encode(), sha256).hexdigest()


def _key(session: Session) -> str:
    instance = get_instance(session)
    assert instance is not None, "the cloud has started"
    if not instance.link_key:
        instance.link_key = secrets.token_hex(32)
        session.add(instance)
        session.flush()
    return instance.link_key
