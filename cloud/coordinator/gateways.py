"""Gateways: created by people, welcomed when they say hello, heard while they speak."""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from cloud.coordinator import admissions, recovery
from cloud.coordinator.access import Caller, hash_of
from cloud.coordinator.losing import lose
from cloud.domain.handshake import Corrections, Ended, Name, Ours, compare
from cloud.errors import Conflict, NotFound
from cloud.storage import claims, gateways, jobs, profiles, purging, reports, tasks
from cloud.storage import recovery as stored_recovery
from cloud.storage.database import Session
from cloud.storage.json_text import clean, to_json
from cloud.storage.schema import GatewayRow
from cloud.storage.tasks import Key, StoredTask
from cloud.storage.views import gateways as views
from contract.http.fleet import GatewayWithToken, NewGateway
from contract.ids import CENTRAL, DEFAULT_ORG
from contract.messages import (
    CancelItem,
    Failure,
    Hello,
    Limits,
    TaskMark,
    TaskRef,
    Welcome,
)
from contract.topics import Address

CORRECTIONS_A_PAGE: Final = 400
# A gateway that no longer lists what it had is asked for it, and has so long to answer.
MISSING_MS: Final = 60_000
# So long after its last word a central gateway that somebody else runs may be replaced.
OTHERS_MS: Final = 60_000
LOST: Final = Failure(code="gateway_lost", text="the gateway came back with another journal")


def create_gateway(
    session: Session, caller: Caller, new: NewGateway, token: str, now: int
) -> GatewayWithToken:
    """Make a gateway known, with the token it will use. Raises Conflict("exists").

    One that was retired is taken back under its name.
    """
    known = gateways.get(session, caller.org, new.id, lock=True)
    if known is not None and known.stop == "retired":
        known.name = clean(new.name) or known.name
        admissions.enroll_again(session, caller, known, token, now)
        shown = views.get_gateway(session, caller.org, new.id, now)
        return GatewayWithToken(**shown.model_dump(), token=token)
    if known is not None:
        raise Conflict("exists", f"there is a gateway `{new.id}`")
    row = GatewayRow(
        org=caller.org,
        id=new.id,
        name=clean(new.name),
        token_hash=hash_of(token),
        created_at=now,
    )
    if not jobs.insert(session, row):
        raise Conflict("exists", f"there is a gateway `{new.id}`")
    gateway = views.get_gateway(session, caller.org, new.id, now)
    return GatewayWithToken(**gateway.model_dump(), token=token)


def ensure_central(session: Session, token: str, now: int) -> bool:
    """Make the central gateway known by our token; says whether it is ours to run.

    It is another's where it has another token and was heard of late: a second cloud on the same
    database runs it, or a unit of its own. When that falls silent it becomes ours.
    """
    row = gateways.get(session, DEFAULT_ORG, CENTRAL, lock=True)
    if row is None:
        made = GatewayRow(
            org=DEFAULT_ORG, id=CENTRAL, name="central gateway", token_hash=hash_of(token),
            created_at=now,
        )  # fmt: skip
        return jobs.insert(session, made)
    if row.token_hash != hash_of(token):
        if row.last_heard_at is not None and now - row.last_heard_at < OTHERS_MS:
            return False
        row.token_hash = hash_of(token)
        session.add(row)
    return True


def accept_hello(
    session: Session,
    address: Address,
    hello: Hello,
    session_id: str,
    now: int,
    limits: Limits | None = None,
) -> list[Welcome]:
    """Open a session for a gateway whose hello is complete; returns the welcome's pages.

    `hello` holds the marks and devices of all its pages. One that is not let in is answered by a
    single page with `refused`. Raises NotFound for a gateway that nobody has created.
    """
    marks, devices = hello.tasks, hello.devices
    row = gateways.get(session, address.org, address.gateway, lock=True)
    if row is None:
        raise NotFound(f"gateway `{address.gateway}`")
    refused = admissions.refusal_of(session, row, hello, now)
    if refused is not None:
        return [refused]
    _enter(row, hello, session_id, now)
    session.add(row)
    session.flush()
    mine = tasks.open_of_gateway(session, address.org, address.gateway, lock=True)
    bound = [task for task in mine if task.facts.journal == hello.journal]
    lose(session, [task for task in mine if task.facts.journal != hello.journal], LOST, now)
    corrections = _compare(session, address, bound, marks)
    if stored_recovery.was_restored(session):
        _recover(session, address, row.journal or "", corrections, now)
    _orphan(session, address, corrections.orphaned, now)
    keys = {task.id: task.key for task in bound}
    gateways.send_again(session, (keys[name] for name, _ in corrections.offer))
    gateways.expect_soon(session, (keys[name] for name, _ in corrections.missing), now + MISSING_MS)
    changed, foreign, gone = gateways.save_inventory(
        session, address.org, address.gateway, devices, now
    )
    row.foreign_devices = len(foreign)
    claims.keep(session, address.org, address.gateway, devices, foreign, now)
    changed += claims.take_over(session, address.org, gone, now)
    session.add(row)
    session.flush()
    _free_forgotten(session, address, {mark.task for mark in marks} | keys.keys())
    places = [f"gateway:{address.gateway}", *(f"device:{device}" for device in changed)]
    tasks.unpark(session, ((address.org, place) for place in places))
    in_conflict = row.conflict_at == now
    wanted = profiles.greet(session, address.org, address.gateway, hello.profiles, now)
    welcomes = _pages(hello, session_id, corrections, limits or Limits(), in_conflict, now)
    return [welcomes[0].model_copy(update={"profiles": wanted}), *welcomes[1:]]


def _enter(row: GatewayRow, hello: Hello, session_id: str, now: int) -> None:
    if hello.instance != row.instance:
        # A process that starts anew has a new id: an old one that speaks again lives beside it.
        if hello.instance == row.previous_instance:
            row.conflict_at = now
        row.previous_instance, row.instance = row.instance, clean(hello.instance)
    row.journal = clean(hello.journal)
    row.session, row.session_at, row.last_heard_at = session_id, now, now
    row.version, row.verbs = clean(hello.version), to_json(sorted(set(hello.verbs)))
    row.digest_misses = 0
    row.takes_profiles = hello.profiles is not None


def _compare(
    session: Session, address: Address, bound: Sequence[StoredTask], marks: Sequence[TaskMark]
) -> Corrections:
    ours = [
        Ours(task.id, task.facts.attempt, task.facts.revision, task.facts.status) for task in bound
    ]
    open_names = {(one.task, one.attempt) for one in ours}
    names: dict[tuple[str, int, int], Name] = {}
    for mark in marks:
        key = _key(mark.task)
        if (mark.task, mark.attempt) not in open_names and key is not None:
            names[(*key, mark.attempt)] = mark.task, mark.attempt
    rows = gateways.ended_attempts(session, address.org, address.gateway, names)
    ended = {
        names[name]: Ended(
            max(row.revision, row.late_revision or 0), row.failure_code == "unconfirmed"
        )
        for name, row in rows.items()
    }
    unknown = {key: name for key, name in names.items() if name not in ended}
    gone = purging.gone(session, {run for run, _, _ in unknown})
    revisions = {(mark.task, mark.attempt): mark.revision for mark in marks}
    for (run, _, _), name in unknown.items():
        if run in gone and gone[run].org == address.org:
            # Its job was deleted: nothing of it is wanted any more.
            ended[name] = Ended(revisions[name])
    return compare(ours, ended, marks)


def _recover(
    session: Session, address: Address, journal: str, corrections: Corrections, now: int
) -> None:
    """What a gateway did after the backup: taken over, or kept whole beside what we know."""
    adopted = recovery.adopt(session, address, journal, corrections.orphaned, now)
    taken = {mark.task for mark in adopted}
    corrections.orphaned = [mark for mark in corrections.orphaned if mark.task not in taken]
    asked = [*adopted, *recovery.to_ask_for(session, address, corrections.orphaned)]
    corrections.report += [(mark.task, mark.attempt) for mark in asked]
    whole = {(mark.task, mark.attempt) for mark in asked}
    # What is kept whole already stays as it is.
    corrections.orphaned = [
        mark for mark in corrections.orphaned if (mark.task, mark.attempt) in whole
    ]


def _key(task: str) -> Key | None:
    run, _, ordinal = task.rpartition("-")
    return (run, int(ordinal)) if run and ordinal.isdecimal() and len(ordinal) < 10 else None


def _orphan(session: Session, address: Address, marks: Iterable[TaskMark], now: int) -> None:
    newest = {(mark.task, mark.attempt): mark for mark in marks}
    reports.refuse(
        session,
        [
            {
                "org": address.org,
                "gateway": address.gateway,
                "task": mark.task,
                "attempt": mark.attempt,
                "code": "unknown_task",
                "revision": mark.revision,
                "detail": stored_recovery.MARKED,
                "raw": mark.model_dump_json(),
                "at": now,
            }
            for _, mark in sorted(newest.items())
        ],
    )


def _free_forgotten(session: Session, address: Address, known: Collection[str]) -> None:
    """A device held for an attempt that neither side has any more is free."""
    for device, task in gateways.held_devices(session, address.org, address.gateway):
        key = _key(task)
        if task in known or key is None:
            continue
        if not gateways.has_open_attempt(session, address.org, device, *key):
            gateways.free_device(session, address.org, device, task)
            tasks.unpark(session, [(address.org, f"device:{device}")])


def _pages(
    hello: Hello,
    session_id: str,
    corrections: Corrections,
    limits: Limits,
    conflict: bool,
    now: int,
) -> list[Welcome]:
    forget = [TaskRef(task=task, attempt=n) for task, n in corrections.forget]
    report = [TaskRef(task=task, attempt=n) for task, n in corrections.report + corrections.missing]
    cancel = [
        CancelItem(task=task, attempt=n, mode="force" if forced else "soft", reason="it has ended")
        for (task, n), forced in corrections.cancel
    ]
    longest = max(len(forget), len(report), len(cancel), 1)
    pages = -(-longest // CORRECTIONS_A_PAGE)
    chunks = [
        slice(page * CORRECTIONS_A_PAGE, (page + 1) * CORRECTIONS_A_PAGE) for page in range(pages)
    ]
    return [
        Welcome(
            session=session_id,
            nonce=hello.nonce,
            journal=hello.journal,
            page=number,
            pages=pages,
            time=now,
            forget=forget[chunk],
            report=report[chunk],
            cancel=cancel[chunk],
            limits=limits,
            conflict=conflict,
        )
        for number, chunk in enumerate(chunks, start=1)
    ]


def heard(
    session: Session, messages: Iterable[tuple[Address, str | None]], now: int
) -> set[tuple[Address, str | None]]:
    """Note that gateways spoke, and return who named the session it is in.

    `messages` are the address and the session named, for a batch of messages at once.
    """
    by_key = {(one.org, one.gateway, name): (one, name) for one, name in messages}
    return {by_key[key] for key in gateways.heard(session, by_key, now)}  # type: ignore[index]
