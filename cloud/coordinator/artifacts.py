"""Names for artifacts. A name, once given, stands for the same bytes for ever."""

import re
from typing import Final

from cloud.artifacts.base import ImageFacts, Stored
from cloud.coordinator.access import Caller
from cloud.errors import Conflict, Invalid, NotFound
from cloud.storage import jobs
from cloud.storage.database import Session
from cloud.storage.schema import ArtifactRow

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}", re.ASCII)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def check_artifact_name(name: str) -> None:
    """Raise Invalid unless the name can stand in an address, and is not taken for a digest."""
    if not _NAME.fullmatch(name) or _DIGEST.fullmatch(name):
        raise Invalid(
            "invalid",
            f"`{name[:140]}` cannot name an artifact: use 1 to 128 letters, digits, `.`, `_`, `+` "
            "and `-`, a letter or digit first, and not a sha256",
        )


def add_artifact(
    session: Session,
    caller: Caller,
    name: str,
    stored: Stored,
    image: ImageFacts | None,
    media_type: str,
    now: int,
) -> bool:
    """Give stored bytes a name. Returns whether it is new; the same bytes again change nothing.

    Raises Conflict("name_taken") when the name stands for other bytes.
    """
    row = session.get(ArtifactRow, (caller.org, name))
    if row is not None:
        if row.sha256 != stored.sha256:
            raise Conflict("name_taken", f"`{name}` stands for {row.sha256} already")
        return False
    session.add(
        ArtifactRow(
            org=caller.org,
            name=name,
            sha256=stored.sha256,
            size=stored.size,
            media_type=media_type,
            image_version=image.version if image else None,
            image_hash=image.hash if image else None,
            created_at=now,
            created_by=caller.name,
        )
    )
    return True


def check_readable(session: Session, org: str, sha256: str) -> str:
    """The media type of an artifact that the org has named. Raises NotFound."""
    row = jobs.find_artifact(session, org, sha256) if _DIGEST.fullmatch(sha256) else None
    if row is None:
        raise NotFound(f"artifact {sha256[:80]}")
    return row.media_type
