"""What the doors are built on: made once by `app.py`, handed to the API and the console."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from cloud.artifacts.base import ArtifactStore
from cloud.coordinator.changes import Changes
from cloud.coordinator.live import RunFeeds
from cloud.coordinator.secrets import Vault
from cloud.storage.database import Database


@dataclass(frozen=True)
class DoorLimits:
    """What a caller may ask of us. Sizes in bytes."""

    max_artifact_bytes: int = 256 * 1024 * 1024
    max_body_bytes: int = 4 * 1024 * 1024
    max_listeners: int = 500
    session_lasts: timedelta = timedelta(hours=12)


@dataclass(frozen=True)
class Services:
    """`clock` gives milliseconds since 1970, `new_secret` a token nobody can guess.

    `address` is ours as others reach it, without a slash at its end; empty where nobody knows.
    `stopping` is set, and everybody who listens for changes woken, when streams have to end.
    `touched` is when the use of a token was noted last.
    `not_ready` says what is missing before work can be done; empty when nothing is.
    """

    database: Database
    artifacts: ArtifactStore
    changes: Changes
    feeds: RunFeeds
    clock: Callable[[], int]
    new_id: Callable[[], str]
    new_secret: Callable[[], str]
    not_ready: Callable[[], list[str]]
    vault: Vault
    address: Callable[[], str] = str
    limits: DoorLimits = field(default_factory=DoorLimits)
    version: str = ""
    has_secure_cookies: bool = False
    touched: dict[str, int] = field(default_factory=dict)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
