"""Tells gateways in session which profiles they are to hold, until they have answered."""

import asyncio
from collections.abc import Callable
from typing import Final, Never

import structlog

from cloud.domain.dispatch import SILENCE_MS
from cloud.errors import StorageFull, StorageUnavailable
from cloud.gateway_link.postman import Clock, Postman
from cloud.storage import profiles
from cloud.storage.database import Database
from contract.messages import Welcome
from contract.topics import Kind

log = structlog.get_logger()

LOOK_EVERY_S: Final = 1.0


class ProfileSender:
    """Looks on a timer, at an index that holds only who has not answered yet."""

    def __init__(
        self, database: Database, postman: Postman, clock: Clock, is_open: Callable[[], bool]
    ) -> None:
        self._database = database
        self._postman = postman
        self._clock = clock
        self._is_open = is_open

    async def run(self) -> Never:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if not self._is_open():
                continue
            try:
                await self.send_due()
            except (StorageFull, StorageUnavailable) as error:
                log.warning("cannot look for profiles to deploy", reason=str(error))

    async def send_due(self) -> None:
        now = self._clock()
        due = await self._database.read(profiles.due, now)
        if not due:
            return
        # Marked before they go: what is lost is said again when its time has come.
        for one in await self._database.run(profiles.to_send, due, now - SILENCE_MS, now):
            welcome = Welcome(session=one.session, time=now, profiles=one.wanted)
            self._postman.post(one.address, Kind.WELCOME, welcome)
