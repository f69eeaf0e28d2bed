"""Identifiers, their one pattern, and how a task's id is built from its run's."""

import re
import unicodedata
from hashlib import sha256
from typing import Annotated, Final, NewType
from zlib import crc32

from pydantic import StringConstraints

OrgId = NewType("OrgId", str)
GatewayId = NewType("GatewayId", str)
RunId = NewType("RunId", str)
TaskId = NewType("TaskId", str)

# One pattern for every id: no character of it has a meaning in a topic, an ACL, a path or SQL
# (CVE-2017-7650: an id of `#` or `+` once walked past mosquitto's patterns).
ID_PATTERN: Final = r"[a-z0-9][a-z0-9-]{0,62}"
_ID: Final = re.compile(ID_PATTERN)
_SLUG_GAP: Final = re.compile(r"[^a-z0-9]+")

Id = Annotated[str, StringConstraints(pattern=f"^{ID_PATTERN}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

DEFAULT_ORG: Final = OrgId("default")
# The gateway of an org that runs the tasks without a gateway of their own: groups, users, rows.
CENTRAL: Final = GatewayId("central")
# A gateway as a member of an update, beside its devices: no id, so no device has this name.
THIS_GATEWAY: Final = "this_gateway"
SHARDS: Final = 32


def is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def slug(name: str) -> str:
    """The id of a job, made from its name in any language; the same name gives the same id.

    Letters lose their accents. Where others have to be left out, or nothing is left, a hash of
    the name tells it from its like: `firmware-7c1f2a90`, `job-7c1f2a90`.
    """
    name = unicodedata.normalize("NFC", name)
    letters = [
        char
        for char in unicodedata.normalize("NFKD", name.casefold())
        if not unicodedata.combining(char)
    ]
    word = _SLUG_GAP.sub("-", "".join(letters)).strip("-")[:63].rstrip("-")
    if word and not any(char.isalnum() and not char.isascii() for char in letters):
        return word
    mark = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{word[:54].rstrip('-') or 'job'}-{mark}"


def task_id(run: str, ordinal: int) -> TaskId:
    return TaskId(f"{run}-{ordinal}")


def run_of(task: str) -> RunId:
    """The run a task id names: everything before its last hyphen."""
    return RunId(task.rpartition("-")[0])


def shard_of(org: str, gateway: str) -> str:
    """The gateway's shard as two hex digits: crc32 of `org/gateway`, modulo 32."""
    return f"{crc32(f'{org}/{gateway}'.encode()) % SHARDS:02x}"
