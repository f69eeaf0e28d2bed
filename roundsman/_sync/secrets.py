"""Named secrets: set and listed, never read."""

from collections.abc import Iterator

from contract.http.targets import Secret, SetSecret
from roundsman._sync.transport import Transport, parse


class Secrets:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def set(self, name: str, value: str) -> Secret:
        """Set a secret, new or not. Runs that have started keep what a gateway has of it."""
        body = SetSecret(value=value)
        return parse(self._transport.send("PUT", f"/secrets/{name}", body=body), Secret)

    def list(self, *, limit: int | None = None) -> Iterator[Secret]:
        """The names; nobody reads the values back."""
        return self._transport.items("/secrets", Secret, {"limit": limit})

    def delete(self, name: str) -> None:
        self._transport.send("DELETE", f"/secrets/{name}", repeatable=False)
