"""Letting gateways in, retiring them, and handing their name to other hardware."""

import structlog

from cloud.coordinator import audit
from cloud.coordinator.access import Caller, hash_of
from cloud.coordinator.losing import lose
from cloud.domain.dispatch import stopped_place
from cloud.domain.handshake import Admission, Refusal, admit
from cloud.errors import Conflict, NotFound
from cloud.storage import admissions, claims, gateways, operations, tasks
from cloud.storage.database import Session
from cloud.storage.json_text import clean
from cloud.storage.schema import GatewayRow
from cloud.storage.schema_admissions import AdmissionRow
from cloud.storage.views import gateways as views
from contract.admission import REFUSALS
from contract.http.fleet import Gateway, GatewayWithToken, RetireGateway
from contract.ids import CENTRAL
from contract.messages import Failure, Hello, Welcome

log = structlog.get_logger()
RETIRED = Failure(code="gateway_lost", text="its gateway was retired")


def refusal_of(session: Session, row: GatewayRow, hello: Hello, now: int) -> Welcome | None:
    """Let a hello in, and note what the next one is held against; the answer if it is not let in.

    The gateway's row is locked. What is not let in changes nothing of what the gateway holds.
    """
    known = admissions.get(session, row.org, row.id)
    found = admit(_facts(session, row, known, hello), hello)
    if isinstance(found, Refusal):
        known.refused_code, known.refused_at = found.code, now
        if found.code == "journal_copied":
            # Which of the two is the right one only a person can tell.
            row.conflict_at = now
            session.add(row)
        session.add(known)
        log.warning(
            "gateway refused", gateway=f"{row.org}/{row.id}", code=found.code,
            why=REFUSALS[found.code], journal=hello.journal,
        )  # fmt: skip
        return Welcome(nonce=hello.nonce, time=now, refused=found.code)
    journal = clean(hello.journal)
    if found.by_next:
        _replace(session, row, known, journal)
    if row.journal is not None and row.journal != journal:
        admissions.retire_journal(session, row.org, row.id, row.journal, now)
    known.mark = clean(hello.mark)
    known.awaited = False
    known.ended_session = None
    session.add(known)
    return None


def _facts(session: Session, row: GatewayRow, known: AdmissionRow, hello: Hello) -> Admission:
    return Admission(
        key=row.token_hash,
        journal=row.journal,
        next_key=known.next_token,
        must_prove=known.must_prove,
        is_retired=row.stop == "retired",
        mark=known.mark,
        is_journal_retired=admissions.is_journal_retired(
            session, row.org, row.id, clean(hello.journal)
        ),
    )


def _replace(session: Session, row: GatewayRow, known: AdmissionRow, journal: str) -> None:
    """The replacement is there: the token before it is void, and what stood against it gone."""
    assert known.next_token is not None
    row.token_hash, known.next_token, known.must_prove = known.next_token, None, True
    row.instance = row.previous_instance = row.conflict_at = None
    known.refused_code = known.refused_at = None
    admissions.restore_journal(session, row.org, row.id, journal)


def replace_gateway(
    session: Session, caller: Caller, gateway: str, token: str, now: int
) -> GatewayWithToken:
    """Give out a token for hardware that takes a gateway's place.

    The one before works until the first hello with this token; what is then bound to another
    journal ends as `gateway_lost`. Asked for again, only the newest token counts.
    """
    row = _get(session, caller, gateway)
    if row.stop == "retired":
        raise Conflict("gateway_retired", f"`{gateway}` was retired: create it again")
    known = admissions.get(session, caller.org, gateway)
    known.next_token = hash_of(token)
    session.add(known)
    session.flush()
    audit.note(session, caller, now, "gateway.replace", f"gateway/{gateway}")
    shown = views.get_gateway(session, caller.org, gateway, now)
    return GatewayWithToken(**shown.model_dump(), token=token)


def retire_gateway(
    session: Session, caller: Caller, gateway: str, asked: RetireGateway, void: str, now: int
) -> tuple[Gateway, set[str]]:
    """End a gateway for good: what it has ends as `gateway_lost`, and its token is void at once.

    Its devices stay without a gateway, or are deleted. `void` is a token that nobody has. Returns
    the runs touched too. Raises NotFound, and Conflict for the central gateway.
    """
    row = _get(session, caller, gateway)
    if row.stop == "retired":
        return views.get_gateway(session, caller.org, gateway, now), set()
    known = admissions.get(session, caller.org, gateway)
    lost = tasks.open_of_gateway(session, caller.org, gateway, lock=True)
    lose(session, lost, RETIRED, now)
    devices = admissions.devices_of(session, caller.org, gateway)
    admissions.let_devices_go(session, caller.org, gateway)
    if asked.delete_devices:
        operations.delete_targets(session, caller.org, "devices", devices)
    claims.drop_all(session, caller.org, gateway)
    if not asked.delete_devices:
        claims.take_over(session, caller.org, devices, now)
    if row.journal is not None:
        admissions.retire_journal(session, row.org, row.id, row.journal, now)
    known.ended_session, known.next_token, known.mark = row.session, None, ""
    known.must_prove, known.awaited = True, False
    admissions.forget_session(row)
    row.journal, row.token_hash = None, hash_of(void)
    row.stop, row.stop_run = "retired", None
    session.add(row)
    session.add(known)
    session.flush()
    places = [f"gateway:{gateway}", stopped_place(gateway), *(f"device:{d}" for d in devices)]
    woken = tasks.unpark(session, ((caller.org, place) for place in places))
    audit.note(
        session, caller, now, "gateway.retire", f"gateway/{gateway}", reason=asked.reason,
        lost=len(lost), devices=len(devices), deleted=asked.delete_devices,
    )  # fmt: skip
    runs = woken | {task.run for task in lost}
    return views.get_gateway(session, caller.org, gateway, now), runs


def enroll_again(session: Session, caller: Caller, row: GatewayRow, token: str, now: int) -> None:
    """Take a retired gateway back under its name, with a new token."""
    row.token_hash, row.stop = hash_of(token), ""
    known = admissions.get(session, row.org, row.id)
    known.refused_code = known.refused_at = None
    session.add(row)
    session.add(known)
    session.flush()
    tasks.unpark(session, [(row.org, f"gateway:{row.id}")])
    audit.note(session, caller, now, "gateway.enroll_again", f"gateway/{row.id}")


def _get(session: Session, caller: Caller, gateway: str) -> GatewayRow:
    row = gateways.get(session, caller.org, gateway, lock=True)
    if row is None:
        raise NotFound(f"gateway `{gateway}`")
    if gateway == CENTRAL:
        raise Conflict("central_gateway", "the central gateway belongs to the cloud")
    return row
