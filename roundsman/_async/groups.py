"""Groups of devices or users."""

from collections.abc import AsyncIterator, Sequence

from contract.http.targets import ChangeMembers, EditGroup, Group, Member, NewGroup
from roundsman._async import targets
from roundsman._async.transport import Transport, parse


class Groups:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, group: NewGroup) -> Group:
        """Raises Conflict when it exists, BadRequest for a query or members that cannot be."""
        return await targets.create(self._transport, "/groups", group, Group)

    async def get(self, group: str) -> Group:
        return await self._transport.get(f"/groups/{group}", Group)

    def list(self, *, limit: int | None = None) -> AsyncIterator[Group]:
        return self._transport.items("/groups", Group, {"limit": limit})

    def members(self, group: str, *, limit: int | None = None) -> AsyncIterator[Member]:
        """The members there are now."""
        return self._transport.items(f"/groups/{group}/members", Member, {"limit": limit})

    async def edit(self, group: str, edit: EditGroup) -> Group:
        return await targets.edit(self._transport, f"/groups/{group}", edit, Group)

    async def change_members(
        self, group: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()
    ) -> Group:
        body = ChangeMembers(add=[*add], remove=[*remove])
        return parse(
            await self._transport.send("POST", f"/groups/{group}/members", body=body), Group
        )

    async def delete(self, group: str) -> None:
        await self._transport.send("DELETE", f"/groups/{group}", repeatable=False)
