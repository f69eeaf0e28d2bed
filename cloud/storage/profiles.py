"""Which profiles each gateway is to hold, what is to be sent, and what gateways answered."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Row

from cloud.domain.profiles import Held, Refused, Unanswered, verdict
from cloud.storage.database import Session
from cloud.storage.dialect import (
    any_of,
    change,
    change_many,
    fetch,
    fetch_one,
    for_update,
    listed,
)
from cloud.storage.json_text import clean
from cloud.storage.schema_profiles import UNANSWERED
from contract.ids import GatewayId, OrgId
from contract.messages import (
    MAX_PROFILES,
    HeldProfile,
    HeldProfiles,
    WantedProfile,
    WantedProfiles,
)
from contract.topics import Address

AGAIN_MS: Final = 10_000
# A gateway that is away is told by its welcome; this is for one that merely was silent.
AWAY_AGAIN_MS: Final = 600_000
TOO_OLD: Final = "its version cannot take profiles"
TOO_MANY: Final = f"it has {MAX_PROFILES} deployed profiles already"


@dataclass(frozen=True)
class Asked:
    """Of the gateways asked: who has it already, who cannot have it and why."""

    same: Sequence[str] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sending:
    """What a gateway in session is told."""

    address: Address
    session: str
    wanted: WantedProfiles


def wanted(session: Session, org: str, gateway: str) -> WantedProfiles | None:
    """The set of a gateway; None where nothing was ever deployed."""
    head = fetch_one(
        session,
        "SELECT revision FROM profile_sets WHERE org = :org AND gateway = :gateway",
        org=org,
        gateway=gateway,
    )
    if head is None:
        return None
    rows = fetch(
        session,
        "SELECT name, sha256, size FROM gateway_profiles WHERE org = :org "
        "AND gateway = :gateway AND sha256 IS NOT NULL ORDER BY name",
        org=org,
        gateway=gateway,
    )
    found = [WantedProfile(name=row.name, sha256=row.sha256, size=row.size) for row in rows]
    return WantedProfiles(revision=head.revision, profiles=found)


def ask(
    session: Session,
    org: str,
    gateways: Sequence[str],
    name: str,
    file: tuple[str, int] | None,
    operation: str,
    now: int,
) -> Asked:
    """Wish that these gateways hold a file (sha256, size) under a name, or no deployed one."""
    ids = listed(session, gateways)
    where = f"org = :org AND {any_of(session, 'gateway', 'ids')}"
    heads = fetch(
        session,
        "SELECT g.id, g.session_at, g.takes_profiles FROM gateways g WHERE g.org = :org "
        f"AND {any_of(session, 'g.id', 'ids')}",
        org=org,
        ids=ids,
    )
    refused = {
        row.id: TOO_OLD for row in heads if row.session_at is not None and not row.takes_profiles
    }
    # The set's row first: whoever answers takes it first, too.
    _lock(session, org, gateways)
    rows = fetch(session, f"SELECT * FROM gateway_profiles WHERE {where}", org=org, ids=ids)
    known = {row.gateway: row for row in rows if row.name == name}
    sha256, size = file or (None, 0)
    if sha256 is not None:
        others: dict[str, int] = {}
        for row in rows:
            if row.name != name and row.sha256 is not None:
                others[row.gateway] = others.get(row.gateway, 0) + 1
        refused |= {g: TOO_MANY for g, number in others.items() if number >= MAX_PROFILES}
    same = [g for g in gateways if g not in refused and _is_so(known.get(g), sha256)]
    changed = [g for g in gateways if g not in refused and g not in same]
    change_many(
        session,
        "INSERT INTO gateway_profiles (org, gateway, name, sha256, size, before_sha256, "
        "before_size, state, problem, watch, wanted_at) VALUES (:org, :gateway, :name, :sha256, "
        ":size, :before, :before_size, 'pending', '', :watch, :now) "
        "ON CONFLICT (org, gateway, name) DO UPDATE SET sha256 = excluded.sha256, "
        "size = excluded.size, before_sha256 = excluded.before_sha256, "
        "before_size = excluded.before_size, state = 'pending', problem = '', "
        "watch = excluded.watch, wanted_at = excluded.wanted_at",
        [
            {"org": org, "gateway": gateway, "name": name, "sha256": sha256, "size": size,
             **_before(known.get(gateway)), "watch": operation, "now": now}
            for gateway in changed
        ],
    )  # fmt: skip
    _move_on(session, org, changed)
    return Asked(same, refused)


def _is_so(row: Row[Any] | None, sha256: str | None) -> bool:
    if row is None:
        return sha256 is None
    return row.state != "pending" and row.sha256 == sha256 and (row.state == "held" or not sha256)


def _before(row: Row[Any] | None) -> dict[str, Any]:
    if row is None:
        return {"before": None, "before_size": 0}
    if row.state == "pending":
        return {"before": row.before_sha256, "before_size": row.before_size}
    return {"before": row.sha256, "before_size": row.size}


def _lock(session: Session, org: str, gateways: Iterable[str]) -> None:
    for gateway in sorted(gateways):
        change(
            session,
            "INSERT INTO profile_sets (org, gateway, revision, answered, send_at) "
            "VALUES (:org, :gateway, 0, 0, 0) ON CONFLICT (org, gateway) "
            "DO UPDATE SET revision = profile_sets.revision",
            org=org,
            gateway=gateway,
        )


def _move_on(session: Session, org: str, gateways: Iterable[str]) -> None:
    """Their sets have changed: tell them at once."""
    change_many(
        session,
        "UPDATE profile_sets SET revision = revision + 1, send_at = 0 "
        "WHERE org = :org AND gateway = :gateway",
        [{"org": org, "gateway": gateway} for gateway in sorted(gateways)],
    )


# -- what goes out


def due(session: Session, now: int, limit: int = 100) -> list[tuple[str, str]]:
    """The next gateways, as (org, id), that have not answered their set."""
    rows = fetch(
        session,
        f"SELECT org, gateway FROM profile_sets WHERE {UNANSWERED} AND send_at <= :now "
        "ORDER BY send_at LIMIT :limit",
        now=now,
        limit=limit,
    )
    return [(row.org, row.gateway) for row in rows]


def to_send(
    session: Session, gateways: Sequence[tuple[str, str]], heard_since: int, now: int
) -> list[Sending]:
    """What those of them are told that are in session; all are due again later."""
    found, marks = [], []
    for org, gateway in sorted(gateways):
        row = fetch_one(
            session,
            "SELECT session, last_heard_at FROM gateways WHERE org = :org AND id = :id",
            org=org,
            id=gateway,
        )
        said = wanted(session, org, gateway)
        is_here = row is not None and row.session and (row.last_heard_at or 0) >= heard_since
        if row is not None and is_here and said is not None:
            found.append(Sending(Address(OrgId(org), GatewayId(gateway)), row.session, said))
        again = now + (AGAIN_MS if is_here else AWAY_AGAIN_MS)
        revision = 0 if said is None else said.revision
        marks.append({"org": org, "gateway": gateway, "again": again, "revision": revision})
    change_many(
        session,
        "UPDATE profile_sets SET send_at = :again WHERE org = :org AND gateway = :gateway "
        "AND revision = :revision",
        marks,
    )
    return found


# -- what comes back


def greet(
    session: Session, org: str, gateway: str, held: Sequence[HeldProfile] | None, now: int
) -> WantedProfiles | None:
    """What a welcome says to a gateway that holds these; None of them: it cannot hold any.

    What it holds and was never heard of here is kept: it was deployed before a restore.
    """
    if held is None:
        change(
            session,
            "UPDATE gateway_profiles SET state = 'refused', problem = :problem, "
            "sha256 = before_sha256, size = before_size "
            "WHERE org = :org AND gateway = :gateway AND state = 'pending'",
            org=org,
            gateway=gateway,
            problem=TOO_OLD,
        )
        _set_answered(session, org, gateway)
        return None
    if held:
        _lock(session, org, [gateway])
    change_many(
        session,
        "INSERT INTO gateway_profiles (org, gateway, name, sha256, size, before_sha256, "
        "before_size, state, problem, watch, wanted_at) VALUES (:org, :gateway, :name, :sha256, "
        ":size, NULL, 0, 'held', '', NULL, :now) ON CONFLICT (org, gateway, name) DO NOTHING",
        [
            {"org": org, "gateway": gateway, "now": now, "name": one.name, "sha256": one.sha256,
             "size": one.size}
            for one in held
            if one.sha256 is not None
        ],
    )  # fmt: skip
    change(
        session,
        f"UPDATE profile_sets SET send_at = :again WHERE org = :org AND gateway = :gateway "
        f"AND {UNANSWERED}",
        org=org,
        gateway=gateway,
        again=now + AGAIN_MS,
    )
    return wanted(session, org, gateway)


def answer(session: Session, org: str, gateway: str, said: HeldProfiles) -> None:
    """Take what a gateway says of its set; of another revision than the newest it means nothing."""
    head = fetch_one(
        session,
        "SELECT revision FROM profile_sets WHERE org = :org AND gateway = :gateway"
        f"{for_update(session)}",
        org=org,
        gateway=gateway,
    )
    if head is None or head.revision != said.revision:
        return
    words = {one.name: one for one in said.profiles}
    rows = fetch(
        session,
        "SELECT * FROM gateway_profiles WHERE org = :org AND gateway = :gateway ORDER BY name",
        org=org,
        gateway=gateway,
    )
    changes, is_whole = [], True
    for row in rows:
        found = verdict(row.sha256, words.get(row.name))
        is_pending = row.state == "pending"
        is_whole &= not (is_pending and found is Unanswered.YET)
        after = {"sha256": row.sha256, "size": row.size, "state": row.state, "problem": row.problem}
        match found:
            case Refused(problem):
                after |= {"state": "refused", "problem": clean(problem)}
                if is_pending:
                    after |= {"sha256": row.before_sha256, "size": row.before_size}
            case Held(problem) if is_pending or (not problem and row.watch is None):
                after |= {"state": "held", "problem": ""}
        # Until its operation has read it, an answer stays as it was given.
        if is_pending or row.watch is None:
            changes.append({"org": org, "gateway": gateway, "name": row.name, **after})
    change_many(
        session,
        "UPDATE gateway_profiles SET sha256 = :sha256, size = :size, state = :state, "
        "problem = :problem WHERE org = :org AND gateway = :gateway AND name = :name",
        changes,
    )
    if is_whole:
        _set_answered(session, org, gateway)


def _set_answered(session: Session, org: str, gateway: str) -> None:
    change(
        session,
        "UPDATE profile_sets SET answered = revision WHERE org = :org AND gateway = :gateway "
        f"AND {UNANSWERED}",
        org=org,
        gateway=gateway,
    )


# -- for the operation that waits


@dataclass(frozen=True)
class Answers:
    """Of an operation: who has not answered, who agreed and who refused since it looked last."""

    waiting: Sequence[str]
    agreed: Sequence[str]
    refused: Mapping[str, str]


def answers(session: Session, operation: str) -> Answers:
    rows = fetch(
        session,
        "SELECT gateway, state, problem FROM gateway_profiles WHERE watch = :operation "
        "ORDER BY gateway",
        operation=operation,
    )
    return Answers(
        [row.gateway for row in rows if row.state == "pending"],
        [row.gateway for row in rows if row.state == "held"],
        {row.gateway: row.problem for row in rows if row.state == "refused"},
    )


def forget(session: Session, operation: str, gateways: Iterable[str]) -> None:
    """The operation has read what these answered."""
    change(
        session,
        "UPDATE gateway_profiles SET watch = NULL WHERE watch = :operation "
        f"AND state <> 'pending' AND {any_of(session, 'gateway', 'ids')}",
        operation=operation,
        ids=listed(session, sorted(gateways)),
    )


def take_back(session: Session, org: str, operation: str) -> list[str]:
    """The operation has ended early: who has not answered is to hold what it held before."""
    left = list(answers(session, operation).waiting)
    _lock(session, org, left)
    rows = fetch(
        session,
        "UPDATE gateway_profiles SET sha256 = before_sha256, size = before_size, state = 'held', "
        "watch = NULL WHERE watch = :operation AND state = 'pending' RETURNING gateway",
        operation=operation,
    )
    back = sorted(row.gateway for row in rows)
    _move_on(session, org, back)
    change(
        session,
        "UPDATE gateway_profiles SET watch = NULL WHERE watch = :operation",
        operation=operation,
    )
    return back
