"""Named secrets: sealed at rest, opened only for the offer to a gateway whose steps use them."""

import base64
import json
import re
from collections.abc import Iterable
from typing import Final

from cryptography.fernet import Fernet, InvalidToken

from cloud.coordinator import audit
from cloud.coordinator.access import Caller
from cloud.domain.secret_names import SecretUseInvalid, used_by
from cloud.errors import Invalid, NotFound
from cloud.storage import secrets
from cloud.storage.database import Session
from cloud.storage.schema_targets import SecretRow
from cloud.storage.views import targets as views
from contract.http.problems import ProblemItem
from contract.http.targets import Secret
from contract.messages import OfferedStep

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


class Vault:
    """Seals and opens with one key of 32 bytes, in base64 for URLs."""

    def __init__(self, key: bytes) -> None:
        self._key = Fernet(key)

    def seal(self, value: str) -> str:
        return self._key.encrypt(value.encode()).decode()

    def open(self, sealed: str) -> str | None:
        """The value; None when another key has sealed it."""
        try:
            return self._key.decrypt(sealed.encode()).decode()
        except InvalidToken:
            return None

    def of_runs(self, session: Session, runs: Iterable[str]) -> dict[str, dict[str, str]]:
        """The secrets that these runs use, by run; nothing for those that use none."""
        found: dict[str, dict[str, str]] = {}
        for run, org, names in secrets.names_of_runs(session, runs):
            sealed = secrets.sealed(session, org, names)
            opened = {name: self.open(text) for name, text in sealed.items()}
            found[run] = {name: value for name, value in opened.items() if value is not None}
        return found


def new_key(random: bytes) -> bytes:
    """A key from 32 random bytes."""
    return base64.urlsafe_b64encode(random)


def set_secret(
    session: Session, caller: Caller, vault: Vault, name: str, value: str, now: int
) -> Secret:
    """Set a secret, new or not. Raises Invalid for a name no template could say."""
    if not _NAME.fullmatch(name):
        text = "a secret's name is a-z, 0-9 and _, and begins with a letter"
        raise Invalid("invalid", text, [ProblemItem(key="name", message=text)])
    row = session.get(SecretRow, (caller.org, name))
    is_new = row is None
    if row is None:
        row = SecretRow(org=caller.org, name=name, created_at=now, updated_at=now)
    row.sealed, row.updated_at, row.updated_by = vault.seal(value), now, caller.name
    session.add(row)
    session.flush()
    audit.note(session, caller, now, "secret.set", f"secret/{name}", new=is_new)
    return views.secret(row)


def delete_secret(session: Session, caller: Caller, name: str, now: int) -> None:
    """Raises NotFound."""
    row = session.get(SecretRow, (caller.org, name))
    if row is None:
        raise NotFound(f"secret `{name}`")
    session.delete(row)
    audit.note(session, caller, now, "secret.delete", f"secret/{name}")


def names_for(session: Session, org: str, steps: Iterable[OfferedStep]) -> str:
    """The names that the steps of a starting run use, as JSON. Raises Invalid for unknown ones."""
    try:
        names = used_by(steps)
    except SecretUseInvalid as error:
        raise Invalid("document_invalid", str(error)) from error
    known = secrets.sealed(session, org, names) if names else {}
    items = [
        ProblemItem(key="steps", message=f"there is no secret `{name}`")
        for name in names
        if name not in known
    ]
    if items:
        raise Invalid("unknown_secret", items[0].message, items)
    return json.dumps(names)
