"""What the parts of the cloud link share: its state, the envelope, the shape of a connection."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from contract import messages
from contract.messages import AnyMessage, Limits, Message, MessageInvalid, Welcome
from contract.topics import Address, Kind

# So many messages of another session in a row say that the cloud believes in another one.
STRANGERS: Final = 5
HELLO_AGAIN_MS: Final = 2_000
LinkStatus = Literal["offline", "greeting", "in_session"]


class Connection(Protocol):
    """One open connection to the broker."""

    async def publish(self, kind: Kind, payload: bytes) -> None:
        """To our own topic of that kind. Raises CloudUnreachable."""
        ...

    def messages(self) -> AsyncIterator[tuple[Kind, bytes]]:
        """What arrives on our topics; ends by raising CloudUnreachable."""
        ...


class Connector(Protocol):
    """Makes connections."""

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        """Raises CloudUnreachable, or CloudRefused when the broker does not let us in."""
        ...


@dataclass
class LinkState:
    """How the link stands; the one place that stamps what goes out and checks what comes in.

    `alarm` is why the broker or the cloud refuses us, for people; `dropped` counts messages that
    were not taken, by reason. `asked_at` is when a hello was last said, by the monotonic
    clock. `refused` is the cloud's code for not letting us in, until it does.
    """

    address: Address
    journal: str
    instance: str
    status: LinkStatus = "offline"
    session: str | None = None
    limits: Limits = field(default_factory=Limits)
    conflict: bool = False
    refused: str | None = None
    alarm: str | None = None
    nonce: str | None = None
    asked_at: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    hello_within: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    last_invalid: str = ""
    _counter: int = 0
    _strangers: int = 0

    @property
    def may_begin_work(self) -> bool:
        return not self.conflict and self.refused is None

    def go_offline(self) -> None:
        self.status = "offline"
        self.close_session()

    def close_session(self) -> None:
        self.session = None
        self.nonce = None
        self.opened.clear()

    def open_session(self, welcome: Welcome) -> bool:
        """Take a welcome for our hello; True if it opens a session that was not open before."""
        if welcome.session is None or welcome.nonce is None or welcome.nonce != self.nonce:
            self.dropped["welcome for another hello"] += 1
            return False
        if welcome.journal is not None and welcome.journal != self.journal:
            self.dropped["welcome for another journal"] += 1
            return False
        self.limits = welcome.limits
        self.refused = None
        self.conflict = welcome.conflict
        is_new = self.session != welcome.session
        if is_new:
            self.session = welcome.session
            self._counter = 0
        self.status = "in_session"
        self.opened.set()
        return is_new

    def is_refused(self, welcome: Welcome) -> bool:
        """Whether this is the end of our session, or the answer to our hello; not another's."""
        ours = welcome.nonce == self.nonce if welcome.nonce else welcome.session == self.session
        is_ours = ours and (self.nonce if welcome.nonce else self.session) is not None
        if is_ours:
            self.refused = welcome.refused
            self.close_session()
        return is_ours

    def seal(self, message: Message) -> bytes:
        """The bytes of a message, stamped with our session and its next counter."""
        return self.sign(messages.encode(message.model_copy(update=self._stamp())))

    def seal_report(self, head: Message, lists: dict[str, list[str]]) -> bytes:
        """As `seal`, with lists whose items are JSON already."""
        body = messages.encode(head.model_copy(update=self._stamp())).decode()[:-1]
        parts = [f'"{name}":[{",".join(items)}]' for name, items in lists.items() if items]
        return self.sign((body + "".join(f",{part}" for part in parts) + "}").encode())

    def sign(self, line: bytes) -> bytes:
        """The seam where the signature's line is appended; gateways have no key yet."""
        return line

    def open(self, kind: Kind, payload: bytes) -> AnyMessage | None:
        """The message if it is for this session, else None and counted.

        Welcomes name the session they open. The seam where a signature is checked.
        """
        try:
            message = messages.parse(kind, payload)
        except MessageInvalid as error:
            self.dropped[f"invalid {kind}"] += 1
            self.last_invalid = str(error)
            return None
        if kind is not Kind.WELCOME and (self.session is None or message.session != self.session):
            self.dropped["another session"] += 1
            self._strangers += 1
            if self._strangers >= STRANGERS and self.session is not None:
                self.ask_for_hello()
            return None
        self._strangers = 0
        return message

    def ask_for_hello(self) -> None:
        """The two sides may have lost each other: greet anew, soon."""
        self._strangers = 0
        if self.hello_within.empty():
            self.hello_within.put_nowait(HELLO_AGAIN_MS)

    def _stamp(self) -> dict[str, Any]:
        self._counter += 1
        return {"session": self.session, "counter": self._counter}
