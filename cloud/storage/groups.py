"""Listed members of groups, in bulk."""

from collections.abc import Iterable

from cloud.storage.database import Session
from cloud.storage.dialect import any_of, change, change_many, fetch, listed


def add(session: Session, org: str, group: str, members: Iterable[str]) -> None:
    change_many(
        session,
        "INSERT INTO group_members (org, of_group, member) VALUES (:org, :of_group, :member) "
        "ON CONFLICT DO NOTHING",
        [{"org": org, "of_group": group, "member": member} for member in sorted(set(members))],
    )


def remove(session: Session, org: str, group: str, members: Iterable[str] | None = None) -> None:
    """Take these members out; None takes out all."""
    if members is None:
        sql = "DELETE FROM group_members WHERE org = :org AND of_group = :of_group"
        change(session, sql, org=org, of_group=group)
        return
    change(
        session,
        "DELETE FROM group_members WHERE org = :org AND of_group = :of_group "
        f"AND {any_of(session, 'member', 'members')}",
        org=org,
        of_group=group,
        members=listed(session, sorted(set(members))),
    )


def forget_member(session: Session, org: str, member: str, resource: str) -> None:
    """Take something that is gone out of all groups of its kind."""
    change(
        session,
        "DELETE FROM group_members WHERE org = :org AND member = :member AND of_group IN "
        "(SELECT id FROM groups WHERE org = :org AND resource = :resource)",
        org=org,
        member=member,
        resource=resource,
    )


def saved_queries(session: Session, org: str, resource: str) -> dict[str, str]:
    """The groups of a kind that are saved queries."""
    rows = fetch(
        session,
        "SELECT id, query FROM groups WHERE org = :org AND resource = :resource "
        "AND query IS NOT NULL",
        org=org,
        resource=resource,
    )
    return {row.id: row.query for row in rows}
