"""What steps ask of the cloud: said again, ever later, until the cloud has answered.

Nothing is kept here over a restart: the step is taken up again and asks with the same key.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from contract.messages import Call, Reply, encode
from contract.topics import Kind
from gateway.cloud_link.wire import Connection, LinkState
from gateway.domain.backoff import backoff_ms
from gateway.errors import CallRefused
from gateway.logs import Log

AGAIN_MS: Final = 2_000
LONGEST_MS: Final = 30_000
MAX_BYTES: Final = 100 * 1024

log = Log()


@dataclass
class _Asked:
    call: Call
    answer: "asyncio.Future[Reply]"
    waiting: int = 1
    tries: int = 0
    due_at: int = 0


class Calls:
    """One for a gateway. `mono` gives milliseconds."""

    def __init__(self, state: LinkState, mono: Callable[[], int]) -> None:
        self._state = state
        self._mono = mono
        self._asked: dict[str, _Asked] = {}
        self._wake = asyncio.Event()

    async def ask(self, call: Call) -> JsonValue:
        """The cloud's answer, whenever it comes; the caller sets the limit. Raises CallRefused."""
        if len(encode(call)) > MAX_BYTES:
            raise CallRefused(f"what it asks for is larger than {MAX_BYTES} bytes", "step_invalid")
        asked = self._asked.get(call.key)
        if asked is None:
            answer = asyncio.get_running_loop().create_future()
            asked = self._asked[call.key] = _Asked(call, answer, 0, 0, self._mono())
        asked.waiting += 1
        self._wake.set()
        try:
            reply = await asyncio.shield(asked.answer)
        finally:
            asked.waiting -= 1
            if not asked.waiting and self._asked.get(call.key) is asked:
                del self._asked[call.key]
        if reply.failure is not None:
            raise CallRefused(reply.failure.text, reply.failure.code, reply.result)
        return reply.result

    def take_reply(self, reply: Reply) -> bool:
        """Hand an answer on; False when nobody waits for it any more."""
        asked = self._asked.get(reply.key)
        if asked is None or asked.answer.done():
            return False
        asked.answer.set_result(reply)
        return True

    def say_again(self) -> None:
        """A session has opened: whatever was said in another is said again at once."""
        for asked in self._asked.values():
            asked.due_at, asked.tries = self._mono(), 0
        self._wake.set()

    async def run(self, connection: Connection) -> None:
        """Until the connection is lost (CloudUnreachable) or the caller cancels."""
        self.say_again()
        while True:
            await self._state.opened.wait()
            self._wake.clear()
            await self._say_due(connection)
            left = [
                one.due_at - self._mono() for one in self._asked.values() if not one.answer.done()
            ]
            try:
                async with asyncio.timeout(max(min(left), 1) / 1000 if left else None):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _say_due(self, connection: Connection) -> None:
        now = self._mono()
        for asked in list(self._asked.values()):
            if asked.due_at > now or asked.answer.done() or self._state.session is None:
                continue
            asked.tries += 1
            asked.due_at = now + backoff_ms(asked.tries, AGAIN_MS, LONGEST_MS)
            if asked.tries > 1:
                log.warning(
                    "call without answer, asked again", key=asked.call.key, verb=asked.call.verb
                )
            await connection.publish(Kind.CALL, self._state.seal(asked.call))
