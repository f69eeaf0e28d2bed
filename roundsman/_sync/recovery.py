"""A cloud that was restored from a backup."""

from contract.http.fleet import Recovery
from roundsman._sync.transport import Transport, parse


class Recoveries:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self) -> Recovery:
        """Whether it still waits, and for which gateways."""
        return self._transport.get("/recovery", Recovery)

    def release(self) -> Recovery:
        """Go on without the gateways that have not said hello yet."""
        answer = self._transport.send("POST", "/recovery/release", repeatable=True)
        return parse(answer, Recovery)
