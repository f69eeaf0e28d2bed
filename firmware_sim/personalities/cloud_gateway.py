"""A gateway that is only its messages, for load: takes offers, reports, ends tasks after a while.

It keeps the rules of the contract: hello in pages, session by the welcome, whole snapshots with
growing revisions, as many messages unreceipted as allowed, resent until a receipt names them. Its
devices are names; nothing is done to them. How long a task takes, and which fail, the seed decides.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from contract.admission import key_of, proof_of
from contract.lifecycle import TASK_ENDS, StepStatus, TaskStatus
from contract.messages import (
    MARKS_A_PAGE,
    MAX_BATCH,
    MAX_DEVICES_A_PAGE,
    Cancel,
    CancelItem,
    Failure,
    Hello,
    InventoryDevice,
    Limits,
    Message,
    MessageInvalid,
    Offer,
    OfferedStep,
    Presence,
    Receipt,
    Report,
    StepSnapshot,
    TaskMark,
    TaskRef,
    TaskSnapshot,
    Welcome,
    digest_of,
    encode,
    parse,
)
from contract.steps import PERFORMED
from contract.topics import Address, Kind, TopicInvalid
from contract.topics import parse as parse_topic
from firmware_sim.device import Device
from firmware_sim.messages import Action, Later, Publish

GATHER_S: Final = 0.03
HELLO_AGAIN_S: Final = 10.0
RESEND_S: Final = 10.0
# So many messages of another session: the two sides have lost each other.
STRANGERS: Final = 3
ENDED_KEPT: Final = 10_000


@dataclass(frozen=True, slots=True)
class CloudGatewaySettings:
    """`task_s` is how long a task takes; one takes from half to one and a half times as long."""

    address: Address
    devices: int = 10
    task_s: float = 1.0
    failures: float = 0.0
    token: str | None = None


@dataclass(slots=True)
class _Held:
    """An attempt in the journal, which is memory here."""

    task: str
    attempt: int
    steps: list[OfferedStep]
    started_at: int
    revision: int = 1
    stored: int = 0
    status: TaskStatus = TaskStatus.RUNNING
    ended_at: int | None = None

    @property
    def has_ended(self) -> bool:
        return self.status in TASK_ENDS


@dataclass(slots=True)
class _Flight:
    """A report without its receipt."""

    revisions: dict[str, int] = field(default_factory=dict)


class CloudGatewayPersonality:
    """Speaks for one gateway. `wall_ms` is its clock, `device` whom the counters belong to."""

    def __init__(
        self, device: Device, settings: CloudGatewaySettings, wall_ms: Callable[[], int]
    ) -> None:
        self.device = device
        self.settings = settings
        self._wall_ms = wall_ms
        self._held: dict[str, _Held] = {}
        self._ended: dict[str, int] = {}
        self._flights: dict[int, _Flight] = {}
        self._limits = Limits()
        self._session: str | None = None
        self._nonce = ""
        self._hellos = self._said = 0
        self._strangers = 0
        self._is_gathering = self._has_booted = self._is_asked = False

    def topics(self) -> list[str]:
        return [self.settings.address.down_filter()]

    def presence(self, is_online: bool) -> Publish:
        presence = Presence(online=is_online, instance=self._instance)
        return Publish(self.settings.address.topic(Kind.PRESENCE), encode(presence))

    def boot(self, now_s: float) -> None:
        self._session = None
        self._flights.clear()
        self._is_gathering = self._is_asked = False
        self._has_booted = True
        self.device.boot()

    def connected(self) -> list[Action]:
        actions: list[Action] = [self.presence(True), *self._hello()]
        if self._has_booted:  # it forgot when they end
            self._has_booted = False
            actions += [self._until_end(h) for h in self._held.values() if not h.has_ended]
        return actions

    def received(self, topic: str, payload: bytes, now_s: float) -> list[Action]:
        """Take one message from the cloud; what is none is dropped and counted."""
        self.device.counters.requests += 1
        try:
            _, kind = parse_topic(topic)
            message = parse(kind, payload)
        except (TopicInvalid, MessageInvalid):
            self.device.counters.dropped += 1
            return []
        if isinstance(message, Welcome):
            return self._welcomed(message)
        if self._session is None or message.session != self._session:
            self.device.counters.dropped += 1
            self._strangers += 1
            lost = self._session is not None and self._strangers >= STRANGERS
            return self._greet_within(HELLO_AGAIN_S) if lost else []
        self._strangers = 0
        match message:
            case Offer():
                return self._take(message)
            case Cancel():
                return self._cancel(message.items)
            case Receipt():
                return self._receipted(message)
            case _:
                return []

    def downloading(self, received: int, total: int | None) -> list[Action]:
        return []

    def downloaded(self, data: bytes) -> list[Action]:
        return []

    def download_failed(self, text: str) -> list[Action]:
        return []

    # -- the session

    @property
    def _journal(self) -> str:
        return f"sim-{self.device.identity.id}"

    @property
    def _instance(self) -> str:
        return f"{self._journal}-{self.device.counters.boots}"

    def _hello(self) -> list[Action]:
        """One hello, repeated until its welcome has come; until then there is no session."""
        self._session = None
        self._flights.clear()
        self._is_asked, self._strangers = False, 0
        self._hellos += 1
        self._nonce = nonce = f"{self._instance}-{self._hellos}"
        name, token = self.device.identity.id, self.settings.token
        devices = [
            InventoryDevice(id=f"{name}-device-{number}", type="load", driver="sim")
            for number in range(1, self.settings.devices + 1)
        ]
        marks = [
            TaskMark(task=h.task, attempt=h.attempt, revision=h.revision, status=h.status)
            for h in self._held.values()
        ]
        parts = [
            *(("devices", devices[i : i + MAX_DEVICES_A_PAGE])
              for i in range(0, len(devices), MAX_DEVICES_A_PAGE)),
            *(("tasks", marks[i : i + MARKS_A_PAGE]) for i in range(0, len(marks), MARKS_A_PAGE)),
        ] or [("tasks", [])]  # fmt: skip
        head = Hello(
            nonce=nonce,
            page=1,
            pages=len(parts),
            journal=self._journal,
            instance=self._instance,
            digest=digest_of([m for m in marks if m.status not in TASK_ENDS]),
            version="sim",
            time=self._wall_ms(),
            proof=""
            if token is None
            else proof_of(key_of(token), nonce, self._journal, self._instance),
        )
        pages = [
            head.model_copy(
                update={"page": n, "verbs": sorted(PERFORMED) if n == 1 else [], what: part}
            )
            for n, (what, part) in enumerate(parts, 1)
        ]

        said = [self._say(Kind.HELLO, page) for page in pages]

        def again(now_s: float) -> list[Action]:
            if self._session is not None or self._nonce != nonce:
                return []
            return [*said, Later(HELLO_AGAIN_S, again)]

        return [*said, Later(HELLO_AGAIN_S, again)]

    def _greet_within(self, within_s: float) -> list[Action]:
        """Greet anew, at a random moment; who is at it already has nothing more to do."""
        if self._session is None or self._is_asked:
            return []
        self._is_asked = True
        wait_s = within_s * self._chance(f"hello/{self._hellos}")
        return [Later(wait_s, lambda now_s: self._hello() if self._is_asked else [])]

    def _welcomed(self, welcome: Welcome) -> list[Action]:
        if welcome.nonce is None and welcome.hello_within is not None:
            return self._greet_within(welcome.hello_within / 1000)
        if welcome.nonce != self._nonce or welcome.conflict or welcome.refused:
            return []
        opens = self._session != welcome.session
        self._session, self._limits = welcome.session, welcome.limits
        for each in welcome.forget:
            self._forget(each)
        for each in welcome.report:
            if each.task in self._held:
                self._held[each.task].stored = 0
        actions = self._cancel(welcome.cancel)
        if not opens:
            return actions
        self._flights.clear()
        session = welcome.session

        def beat(now_s: float) -> list[Action]:
            if self._session != session:
                return []
            return [self._report([]), Later(self._limits.heartbeat / 1000, beat)]

        return [*actions, *self._gather(), Later(self._limits.heartbeat / 1000, beat)]

    # -- the tasks

    def _take(self, offer: Offer) -> list[Action]:
        bodies = {body.hash: body for body in offer.bodies}
        actions: list[Action] = []
        for task in offer.tasks:
            held = self._held.get(task.task)
            if held is not None and held.attempt >= task.attempt:
                held.stored = 0
                self.device.counters.repeats += 1
                continue
            if self._ended.get(task.task, 0) >= task.attempt:
                self.device.counters.repeats += 1
                continue
            body = bodies.get(task.body)
            steps = body.steps if body is not None else []
            held = _Held(task.task, task.attempt, steps, self._wall_ms())
            self._held[task.task] = held
            actions.append(self._until_end(held))
        return [*actions, *self._gather()]

    def _until_end(self, held: _Held) -> Later:
        name = f"{held.task}/{held.attempt}"
        takes_s = self.settings.task_s * (0.5 + self._chance(f"time/{name}"))
        fails = self._chance(f"failure/{name}") < self.settings.failures
        end = TaskStatus.FAILED if fails else TaskStatus.SUCCEEDED
        return Later(takes_s, lambda now_s: self._end(held, end))

    def _end(self, held: _Held, status: TaskStatus) -> list[Action]:
        if held.has_ended or self._held.get(held.task) is not held:
            return []
        held.status, held.ended_at = status, self._wall_ms()
        held.revision += 1
        self.device.counters.done += 1
        return self._gather()

    def _cancel(self, items: list[CancelItem]) -> list[Action]:
        """Everything has begun as soon as it is taken, so there is nothing to hand back."""
        actions: list[Action] = []
        for item in items:
            held = self._held.get(item.task)
            if held is not None and held.attempt == item.attempt and item.mode != "recall":
                actions += self._end(held, TaskStatus.CANCELLED)
        return actions

    def _forget(self, ref: TaskRef) -> None:
        held = self._held.get(ref.task)
        if held is not None and held.attempt == ref.attempt:
            self._bury(held)

    def _bury(self, held: _Held) -> None:
        self._held.pop(held.task, None)
        self._ended[held.task] = held.attempt
        while len(self._ended) > ENDED_KEPT:
            del self._ended[next(iter(self._ended))]

    # -- the reports

    def _gather(self) -> list[Action]:
        if self._is_gathering:
            return []
        self._is_gathering = True
        return [Later(GATHER_S, self._flush)]

    def _flush(self, now_s: float) -> list[Action]:
        self._is_gathering = False
        return self._speak()

    def _speak(self) -> list[Action]:
        """As many messages as may be without a receipt, each with what no other one carries."""
        if self._session is None:
            return []
        actions: list[Action] = []
        under_way: dict[str, int] = {}
        for flight in self._flights.values():
            under_way |= flight.revisions
        unsent = [
            h for h in self._held.values() if h.revision > max(h.stored, under_way.get(h.task, 0))
        ]
        while unsent and len(self._flights) < self._limits.max_unreceipted:
            batch, unsent = unsent[:MAX_BATCH], unsent[MAX_BATCH:]
            message, session = self._said + 1, self._session
            actions.append(self._report(batch))
            self._flights[message] = _Flight({h.task: h.revision for h in batch})

            def again(now_s: float, message: int = message, session: str = session) -> list[Action]:
                if self._session != session or self._flights.pop(message, None) is None:
                    return []
                return self._speak()

            actions.append(Later(RESEND_S, again))
        return actions

    def _report(self, batch: list[_Held]) -> Publish:
        self._said += 1
        tasks = [_snapshot(held) for held in batch]
        report = Report(session=self._session, message=self._said, counter=self._said, tasks=tasks)
        return self._say(Kind.REPORT, report)

    def _receipted(self, receipt: Receipt) -> list[Action]:
        if self._flights.pop(receipt.message, None) is None:
            return []
        for item in receipt.items:
            held = self._held.get(item.task)
            if held is None or held.attempt != item.attempt:
                continue
            # What is refused would be refused again: a load generator lets go of it.
            self.device.counters.dropped += item.outcome == "refused"
            held.stored = max(held.stored, item.revision)
            if held.has_ended and held.stored >= held.revision:
                self._bury(held)
        return self._speak()

    def _say(self, kind: Kind, message: Message) -> Publish:
        return Publish(self.settings.address.topic(kind), encode(message))

    def _chance(self, what: str) -> float:
        """From 0 to 1, by the seed alone."""
        word = f"{self.device.faults.seed}/{what}".encode()
        return int.from_bytes(sha256(word).digest()[:8]) / 2**64


def _snapshot(held: _Held) -> TaskSnapshot:
    """Its steps are all done or all to come; of one that failed it was the first."""
    failure = None
    if held.status is TaskStatus.FAILED:
        first = held.steps[0].id if held.steps else None
        failure = Failure(code="device_refused", text="the seed says no", step=first)
    return TaskSnapshot(
        task=held.task,
        attempt=held.attempt,
        revision=held.revision,
        status=held.status,
        begun=True,
        started_at=held.started_at,
        ended_at=held.ended_at,
        elapsed=0 if held.ended_at is None else max(held.ended_at - held.started_at, 0),
        progress=100 if held.status is TaskStatus.SUCCEEDED else 0,
        current_step=held.steps[0].id if held.steps and not held.has_ended else None,
        steps=[_step(held, number, failure) for number in range(len(held.steps))],
        failure=failure,
    )


def _step(held: _Held, number: int, failure: Failure | None) -> StepSnapshot:
    step = held.steps[number]
    touched = number == 0 or held.status is TaskStatus.SUCCEEDED
    if held.status is TaskStatus.SUCCEEDED:
        status = StepStatus.SUCCEEDED
    elif number:
        status = StepStatus.SKIPPED if held.has_ended else StepStatus.PENDING
    else:
        status = StepStatus.FAILED if held.has_ended else StepStatus.RUNNING
    return StepSnapshot(
        id=step.id,
        uses=step.uses,
        status=status,
        progress=100 if status is StepStatus.SUCCEEDED else 0,
        failure=failure if status is StepStatus.FAILED else None,
        started_at=held.started_at if touched else None,
        completed_at=held.ended_at if touched else None,
        skipped_at=held.ended_at if status is StepStatus.SKIPPED else None,
    )
