"""Users as targets: people whom jobs are about."""

from collections.abc import AsyncIterator
from typing import BinaryIO

from pydantic import JsonValue

from contract.http.runs import Run
from contract.http.targets import EditUser, NewUser, User
from roundsman._async import targets
from roundsman._async.transport import Transport


class Users:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, user: NewUser) -> User:
        """Raises Conflict when there is one."""
        return await targets.create(self._transport, "/users", user, User)

    async def get(self, user: str) -> User:
        return await self._transport.get(f"/users/{user}", User)

    def list(self, *, limit: int | None = None) -> AsyncIterator[User]:
        return self._transport.items("/users", User, {"limit": limit})

    async def edit(self, user: str, edit: EditUser) -> User:
        return await targets.edit(self._transport, f"/users/{user}", edit, User)

    async def delete(self, user: str) -> None:
        await self._transport.send("DELETE", f"/users/{user}", repeatable=False)

    async def import_file(
        self, content: bytes | BinaryIO, *, mode: targets.Mode = "keep_good"
    ) -> Run:
        """From CSV: columns id, name, type, email, phone, tags.NAME, attributes.NAME."""
        return await targets.import_file(self._transport, "/users/import", content, mode)

    async def export(self, *, query: JsonValue = None) -> Run:
        return await targets.select(self._transport, "/users/export", query, False)

    async def delete_all(self, *, query: JsonValue = None, everything: bool = False) -> Run:
        """Delete the users that fit; without a query only with `everything`."""
        return await targets.select(self._transport, "/users/delete", query, everything)
