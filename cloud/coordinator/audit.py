"""What people and programs did, noted in the transaction in which they did it."""

from pydantic import JsonValue

from cloud.coordinator.access import Caller
from cloud.storage import audit
from cloud.storage.database import Session


def note(
    session: Session, caller: Caller, now: int, action: str, subject: str, /, **detail: JsonValue
) -> None:
    """Add a line to the audit log. `detail` must not hold a secret; what is empty is left out."""
    audit.add(session, caller.org, now, caller.id, caller.name, action, subject, detail)
