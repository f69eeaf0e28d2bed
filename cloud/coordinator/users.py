"""Users as targets: the contacts of an org, apart from those who log in."""

from cloud.coordinator.access import Caller
from cloud.coordinator.edits import apply_edits
from cloud.errors import Conflict, NotFound
from cloud.storage import groups, jobs
from cloud.storage.database import Session
from cloud.storage.json_text import clean
from cloud.storage.schema_targets import ContactRow
from cloud.storage.views import targets as views
from contract.http.targets import EditUser, NewUser, User

_PLAIN = ("name", "type", "email", "phone")


def create_user(session: Session, caller: Caller, new: NewUser, now: int) -> User:
    """Raises Conflict("exists")."""
    row = ContactRow(org=caller.org, id=new.id, created_at=now, updated_at=now)
    for name in _PLAIN:
        setattr(row, name, clean(getattr(new, name)))
    apply_edits(row, new.tags, new.attributes)
    if not jobs.insert(session, row):
        raise Conflict("exists", f"there is a user `{new.id}`")
    return views.get_user(session, caller.org, new.id)


def edit_user(session: Session, caller: Caller, user: str, edit: EditUser, now: int) -> User:
    """Raises NotFound and Invalid."""
    row = _get(session, caller.org, user)
    for name in _PLAIN:
        given = getattr(edit, name)
        if given is not None:
            setattr(row, name, clean(given))
    apply_edits(row, edit.tags, edit.attributes)
    row.updated_at = now
    session.add(row)
    session.flush()
    return views.get_user(session, caller.org, user)


def delete_user(session: Session, caller: Caller, user: str) -> None:
    """Raises NotFound."""
    row = _get(session, caller.org, user)
    groups.forget_member(session, caller.org, user, "user")
    session.delete(row)


def _get(session: Session, org: str, user: str) -> ContactRow:
    row = session.get(ContactRow, (org, user))
    if row is None:
        raise NotFound(f"user `{user}`")
    return row
