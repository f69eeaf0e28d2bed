"""Which restarts of this process were asked for, so that none is made twice for one request."""

import json
from sqlite3 import Connection
from typing import Final

from gateway.journal import meta

KEY: Final = "restarts"
KEPT: Final = 20


def ask(db: Connection, request: str, boot: int) -> int:
    """Note a request; the boot in which it was asked for first. A later boot has fulfilled it."""
    asked = _asked(db)
    if request not in asked:
        asked[request] = boot
        meta.put(db, KEY, json.dumps(dict(list(asked.items())[-KEPT:])))
    return asked[request]


def is_made(db: Connection, request: str, boot: int) -> bool:
    """Whether it was asked for, and a start since has fulfilled it."""
    return _asked(db).get(request, boot) < boot


def _asked(db: Connection) -> dict[str, int]:
    asked: dict[str, int] = json.loads(meta.get(db, KEY) or "{}")
    return asked
