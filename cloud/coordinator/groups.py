"""Groups of devices or users: listed members, or a saved query."""

import json

from cloud.coordinator.access import Caller
from cloud.coordinator.edits import apply_edits
from cloud.coordinator.targets import standing_query
from cloud.errors import Conflict, Invalid, NotFound
from cloud.storage import groups, jobs, target_documents
from cloud.storage.database import Session
from cloud.storage.json_text import clean, to_json
from cloud.storage.schema_targets import GroupRow
from cloud.storage.targets import SHAPES
from cloud.storage.views import targets as views
from contract import query as queries
from contract.http.problems import ProblemItem
from contract.http.targets import ChangeMembers, EditGroup, Group, NewGroup
from contract.query_fields import GroupCycle, expand_groups


def create_group(session: Session, caller: Caller, new: NewGroup, now: int) -> Group:
    """Raises Conflict("exists") and Invalid: a query or members that cannot be."""
    if new.query is not None and new.members:
        raise _invalid("query", "give a query or members, not both")
    row = GroupRow(
        org=caller.org,
        id=new.id,
        name=clean(new.name),
        type=clean(new.type),
        resource=new.resource,
        created_at=now,
        updated_at=now,
    )
    if not jobs.insert(session, row):
        raise Conflict("exists", f"there is a group `{new.id}`")
    apply_edits(row, new.tags, new.attributes)
    if new.query is not None:
        _save_query(session, row, new.query)
    _add(session, row, new.members)
    session.flush()
    return views.get_group(session, caller.org, new.id)


def edit_group(session: Session, caller: Caller, group: str, edit: EditGroup, now: int) -> Group:
    """Raises NotFound and Invalid."""
    row = _get(session, caller.org, group)
    row.name = row.name if edit.name is None else clean(edit.name)
    row.type = row.type if edit.type is None else clean(edit.type)
    apply_edits(row, edit.tags, edit.attributes)
    if edit.query is not None:
        if row.query is None:
            raise _invalid("query", "a group with listed members keeps them; make another group")
        _save_query(session, row, edit.query)
    row.updated_at = now
    session.add(row)
    session.flush()
    return views.get_group(session, caller.org, group)


def change_members(
    session: Session, caller: Caller, group: str, change: ChangeMembers, now: int
) -> Group:
    """Add and take out listed members. Raises NotFound, and Invalid for members that are not."""
    row = _get(session, caller.org, group)
    if row.query is not None:
        raise _invalid("add", "the members of this group are what its query fits")
    _add(session, row, change.add)
    groups.remove(session, caller.org, group, change.remove)
    row.updated_at = now
    session.add(row)
    session.flush()
    return views.get_group(session, caller.org, group)


def delete_group(session: Session, caller: Caller, group: str) -> None:
    """Delete a group; its members stay. Raises NotFound."""
    row = _get(session, caller.org, group)
    groups.remove(session, caller.org, group)
    session.delete(row)


def _get(session: Session, org: str, group: str) -> GroupRow:
    row = session.get(GroupRow, (org, group))
    if row is None:
        raise NotFound(f"group `{group}`")
    return row


def _add(session: Session, row: GroupRow, members: list[str]) -> None:
    found = target_documents.known(session, row.org, SHAPES[row.resource], members)
    missing = [member for member in members if member not in found]
    if missing:
        raise _invalid("members", f"there is no {row.resource} {', '.join(missing[:10])}")
    groups.add(session, row.org, row.id, members)


def _save_query(session: Session, row: GroupRow, query: object) -> None:
    read = standing_query(session, row.org, query, row.resource)  # type: ignore[arg-type]
    row.query = to_json(queries.to_json(read))
    session.add(row)
    session.flush()
    # A change here can close a circle through groups that were fine before.
    saved = groups.saved_queries(session, row.org, row.resource)

    def of_group(group: str) -> queries.Query | None:
        return queries.parse(json.loads(saved[group])) if group in saved else None

    try:
        expand_groups(queries.Member((row.id,)), of_group)
    except GroupCycle as error:
        raise _invalid("query", error.reason) from error


def _invalid(key: str, message: str) -> Invalid:
    return Invalid("invalid", f"{key}: {message}", [ProblemItem(key=key, message=message)])
