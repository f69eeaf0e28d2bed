"""Users as targets: people whom jobs are about."""

from collections.abc import Iterator
from typing import BinaryIO

from pydantic import JsonValue

from contract.http.runs import Run
from contract.http.targets import EditUser, NewUser, User
from roundsman._sync import targets
from roundsman._sync.transport import Transport


class Users:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, user: NewUser) -> User:
        """Raises Conflict when there is one."""
        return targets.create(self._transport, "/users", user, User)

    def get(self, user: str) -> User:
        return self._transport.get(f"/users/{user}", User)

    def list(self, *, limit: int | None = None) -> Iterator[User]:
        return self._transport.items("/users", User, {"limit": limit})

    def edit(self, user: str, edit: EditUser) -> User:
        return targets.edit(self._transport, f"/users/{user}", edit, User)

    def delete(self, user: str) -> None:
        self._transport.send("DELETE", f"/users/{user}", repeatable=False)

    def import_file(self, content: bytes | BinaryIO, *, mode: targets.Mode = "keep_good") -> Run:
        """From CSV: columns id, name, type, email, phone, tags.NAME, attributes.NAME."""
        return targets.import_file(self._transport, "/users/import", content, mode)

    def export(self, *, query: JsonValue = None) -> Run:
        return targets.select(self._transport, "/users/export", query, False)

    def delete_all(self, *, query: JsonValue = None, everything: bool = False) -> Run:
        """Delete the users that fit; without a query only with `everything`."""
        return targets.select(self._transport, "/users/delete", query, everything)
