"""Offering what may start, and what is to be sent to gateways: the task table is the outbox."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import JsonValue

from cloud.coordinator import acknowledgments as signing
from cloud.coordinator import batches, run_facts, serial
from cloud.domain import tasks as task_rules
from cloud.domain.counts import Deltas
from cloud.domain.dispatch import (
    SILENCE_MS,
    DueTask,
    Rules,
    Taken,
    Waiter,
    choose,
    in_turn,
)
from cloud.storage import acknowledgments, counts, dispatching, holds, runs, target_documents, tasks
from cloud.storage import batches as batch_storage
from cloud.storage.database import Session
from cloud.storage.targets import SHAPES
from cloud.storage.tasks import Key, Move
from contract.ids import GatewayId, OrgId, task_id
from contract.lifecycle import TaskStatus
from contract.messages import CancelItem, Failure, JobBody, OfferedTask
from contract.topics import Address

# The secrets that runs use, by run and name.
SecretsOf = Callable[[Session, Iterable[str]], Mapping[str, Mapping[str, str]]]
# What one tick looks at, over all runs: about 100 ms of one transaction.
LOOKED_AT: Final = 1_000
SHARE: Final = 100
DELETED: Final = Failure(code="target_deleted", text="the target was deleted before its turn")
RESEND_AFTER_MS: Final = 10_000


@dataclass
class Dispatched:
    """What a tick did. `more`: it stopped at its limit, so go on at once."""

    offered: int = 0
    runs: set[str] = field(default_factory=set)
    gateways: set[Address] = field(default_factory=set)
    more: bool = False

    def add(self, org: str, offered: Sequence[DueTask]) -> None:
        self.offered += len(offered)
        self.runs.update(task.run for task in offered)
        self.gateways.update(
            Address(OrgId(org), GatewayId(task.gateway.id)) for task in offered if task.gateway
        )


@dataclass
class Offering:
    """Offers for one gateway in session; split them to the size of messages, then mark them.

    Those of several targets that no message can hold stand in `too_large`: to be ended.
    """

    address: Address
    session: str
    tasks: list[OfferedTask] = field(default_factory=list)
    bodies: dict[str, JobBody] = field(default_factory=dict)
    too_large: list[OfferedTask] = field(default_factory=list)


@dataclass
class Cancelling:
    """Cancels for one gateway in session."""

    address: Address
    session: str
    items: list[CancelItem] = field(default_factory=list)


def offer_due(session: Session, now: int, silence: int = SILENCE_MS) -> Dispatched:
    """Move due tasks to `offered`, as slots, devices, holds and gateways allow.

    A task that its gateway or device blocks is parked there, and wakes when that frees.
    """
    done = Dispatched()
    live = {run.id: run for run in dispatching.live_runs(session, now)}
    totals = counts.totals(session, live)
    orgs = {run.org for run in live.values()}
    held = {org: holds.active(session, org, now) for org in sorted(orgs)}
    tick = _Tick(session, now, silence, Deltas(), Taken())
    # What remains when an org has had its share goes to the next; what it lacks it gets at once
    # in the next tick.
    budgets = {org: max(LOOKED_AT // len(orgs), SHARE) for org in orgs}
    for waiter in in_turn(map(_waiter, live.values()), now):
        run = live[waiter.run]
        if EVERYTHING in held[run.org]:
            continue
        free = run.concurrency - totals[run.id].slots_taken
        if free > 0 and run.delay:
            free -= dispatching.resting_slots(session, run.id, now)
        while free > 0 and budgets[run.org] > 0:
            cost = batches.weight(run)
            limit = min(free, max(budgets[run.org] // cost, 1))
            rules = _rules(run, held[run.org])
            looked_at, offered = tick.offer(run, rules, limit)
            budgets[run.org] -= looked_at * cost
            free -= len(offered)
            done.add(run.org, offered)
            if looked_at < limit or run.serial:
                break
        done.more |= budgets[run.org] <= 0
    dispatching.note_offered(session, done.runs, now)
    counts.move(session, tick.deltas, counts.DISPATCH_SHARD)
    return done


EVERYTHING: Final = ("org", "all")


def _waiter(run: Any) -> Waiter:
    since = run.offered_at or run.started_at or run.created_at
    return Waiter(run.id, run.org, run.priority, since, run.created_at)


def _rules(run: Any, held: frozenset[tuple[str, str]]) -> Rules:
    return Rules(
        frozenset(json.loads(run.verbs)),
        run.per_gateway,
        run.per_bus,
        run.per_site,
        held,
        run.retry_online,
    )


@dataclass
class _Tick:
    """One round over all runs, and what it has given away so far."""

    session: Session
    now: int
    silence: int
    deltas: Deltas
    taken: Taken

    def offer(self, run: Any, rules: Rules, limit: int) -> tuple[int, Sequence[DueTask]]:
        """Offer tasks of a run; returns how many were looked at, and those that were offered."""
        session, now = self.session, self.now
        if run.serial:
            found = serial.candidates(session, run, now, self.silence)
            rows: Sequence[Any] = found[: max(LOOKED_AT // batches.weight(run), 1)]
        else:
            rows = dispatching.due_tasks(session, run.id, now, limit)
        if not rows:
            return 0, []
        due, gone = self._due_tasks(run, rows, rules)
        if gone:
            dispatching.fail_due(session, run.id, gone, TaskStatus.FAILED, DELETED, now)
        if run.serial:
            choice = serial.choose_turn(due, rules, run, self.taken, now, self.silence)
            for task in [*choice.offer, *(task for task, _ in choice.park[-1:])]:
                dispatching.save_turn(session, run.id, task.ordinal, now)
        else:
            choice = choose(due, rules, limit, self.taken, now, self.silence)
        dispatching.park(session, choice.park)
        dispatching.offer(session, run.org, choice.offer, now, rules)
        offered = {task.ordinal for task in choice.offer}
        for row in rows:
            status = TaskStatus(row.status)
            if row.ordinal in offered:
                self.deltas.moved(run.id, status, 0, TaskStatus.OFFERED, 0)
            elif row.ordinal in gone:
                self.deltas.moved(run.id, status, 0, TaskStatus.FAILED, 0)
        return len(rows), choice.offer

    def _due_tasks(
        self, run: Any, rows: Sequence[Any], rules: Rules
    ) -> tuple[list[DueTask], set[int]]:
        """The tasks as rules see them, and the ordinals of those whose target is gone."""
        session = self.session
        tags = rules.per_site is not None or any(kind == "site" for kind, _ in rules.holds)
        ids = (row.device for row in rows if row.device)
        devices = dispatching.devices(session, run.org, ids, tags)
        gone = {row.ordinal for row in rows if row.device and row.device not in devices}
        if batches.is_batch(run):
            gone = batch_storage.note_gone(session, run, (row.ordinal for row in rows))
        else:
            gone |= _gone_targets(session, run, rows)
        rows = [row for row in rows if row.ordinal not in gone]
        owners = {device.gateway for device in devices.values() if device.gateway}
        owners |= {row.gateway for row in rows if row.device is None and row.gateway}
        facts = dispatching.gateways(session, run.org, owners)
        if rules.per_gateway is not None:
            for gateway, number in dispatching.in_flight(session, run.org, run.id, owners).items():
                self.taken.in_flight[run.id, f"slots:{gateway}"] = number
        if rules.has_places:
            for place, number in dispatching.in_places(session, run.org, run.id).items():
                self.taken.in_flight[run.id, place] = number
        return [
            dispatching.due_task_of(run.id, run.org, row, devices.get(row.device), facts)
            for row in rows
        ], gone


def _gone_targets(session: Session, run: Any, rows: Sequence[Any]) -> set[int]:
    """Tasks about groups, users and rows that no longer exist."""
    about = [row for row in rows if row.device is None and row.target]
    if not about or run.resource not in SHAPES:
        return set()
    known = target_documents.of_ids(
        session, run.org, SHAPES[run.resource], [row.target for row in about], run.target_table
    )
    return {row.ordinal for row in about if row.target not in known}


def offers_to_send(
    session: Session,
    now: int,
    gateways: Iterable[Address] | None = None,
    *,
    resend_after: int = RESEND_AFTER_MS,
    silence: int = SILENCE_MS,
    secrets: SecretsOf | None = None,
    limit: int = 1_000,
) -> list[Offering]:
    """Everything in `offered` that its gateway, in session, has to hear now or again.

    `gateways` narrows it to some. Call `mark_sent` with what was published.
    """
    rows = batches.within_reach(dispatching.offers(session, now, resend_after, silence, limit))
    wanted = None if gateways is None else set(gateways)
    texts = dispatching.bodies(session, {row.run for row in rows})
    bodies = {run: JobBody.model_validate_json(text) for run, text in texts.items()}
    if secrets is not None and bodies:
        # Here alone: what is stored of a run, its body above all, never holds a secret.
        for run, values in secrets(session, bodies).items():
            bodies[run] = bodies[run].model_copy(update={"secrets": values})
    list_texts = dispatching.bodies_of_lists(session, rows)
    of_lists = {name: JobBody.model_validate_json(text) for name, text in list_texts.items()}
    facts = run_facts.of_offers(session, rows, {**texts, **list_texts})
    parameters = dispatching.parameters(session, rows)
    others = _other_targets(session, rows)
    of_batches = batches.documents(session, rows)
    found: dict[Address, Offering] = {}
    for row in rows:
        address = Address(OrgId(row.org), GatewayId(row.gateway))
        if wanted is not None and address not in wanted:
            continue
        offering = found.setdefault(address, Offering(address, row.session))
        key = row.run, row.ordinal
        offered = _offered(row, others.get(key), parameters.get(key), now)
        if bodies[row.run].acknowledge is not None:
            offered = _with_token(session, row.org, offered)
        if row.run in facts:
            offered = offered.model_copy(update={"run_facts": facts[row.run]})
        body = of_lists.get(row.body_hash) or bodies[row.run]
        if key in of_batches:
            offered = offered.model_copy(update={"target": {}, "targets": of_batches[key]})
            if not batches.fits(offered, body):
                offering.too_large.append(offered)
                continue
        offering.tasks.append(offered)
        offering.bodies[row.body_hash] = body
    return list(found.values())


def _with_token(session: Session, org: str, offered: OfferedTask) -> OfferedTask:
    """Steps may hand the token on to whoever is to acknowledge; the first offer made the key."""
    key = signing.known_key(session)
    if key is None:
        return offered
    token = signing.token_of(key, org, offered.task, offered.attempt)
    return offered.model_copy(update={"acknowledgment_token": token})


def _other_targets(session: Session, rows: Sequence[Any]) -> dict[Key, dict[str, JsonValue]]:
    """The documents of targets that are no devices, as they are now."""
    wanted: defaultdict[tuple[str, str, str], list[Any]] = defaultdict(list)
    for row in rows:
        if row.device is None and row.target is not None:
            wanted[row.org, row.resource, row.target_table].append(row)
    found: dict[Key, dict[str, JsonValue]] = {}
    for (org, resource, table), of_kind in sorted(wanted.items()):
        ids = [row.target for row in of_kind]
        documents = target_documents.of_ids(session, org, SHAPES[resource], ids, table)
        for row in of_kind:
            found[row.run, row.ordinal] = documents.get(row.target, {"id": row.target})
    return found


def _offered(
    row: Any, other: dict[str, JsonValue] | None, parameters: str | None, now: int
) -> OfferedTask:
    target: dict[str, JsonValue] = {"id": row.device} if other is None else other
    if row.device is not None and row.type is not None:
        target |= {
            "type": row.type,
            "name": row.name,
            "gateway": row.gateway,
            "tags": json.loads(row.tags),
            "attributes": json.loads(row.attributes),
            "state": json.loads(row.state),
        }
    return OfferedTask(
        task=task_id(row.run, row.ordinal),
        attempt=row.attempt,
        run=row.run,
        body=row.body_hash,
        ordinal=row.ordinal,
        tries=row.tries,
        device=row.device,
        target=target,
        parameters=json.loads(parameters) if parameters else {},
        accumulator=json.loads(row.accumulator) if row.serial else None,
        timeout=row.timeout,
        start_by=max(min(row.start_by, row.expires_at - now), 0),
        priority=row.priority,
    )


def cancels_to_send(
    session: Session,
    now: int,
    *,
    resend_after: int = RESEND_AFTER_MS,
    silence: int = SILENCE_MS,
    limit: int = 1_000,
) -> list[Cancelling]:
    """Every cancel that has not been answered, to gateways in session."""
    found: dict[Address, Cancelling] = {}
    for row in dispatching.cancels(session, now, resend_after, silence, limit):
        address = Address(OrgId(row.org), GatewayId(row.gateway))
        found.setdefault(address, Cancelling(address, row.session)).items.append(
            CancelItem(
                task=task_id(row.run, row.ordinal),
                attempt=row.attempt,
                mode=row.cancel,
                reason=row.reason,
            )
        )
    for row in acknowledgments.untold(session, now, resend_after, silence, limit):
        address = Address(OrgId(row.org), GatewayId(row.gateway))
        found.setdefault(address, Cancelling(address, row.session)).items.append(
            CancelItem(
                task=task_id(row.run, row.ordinal), attempt=row.attempt, reason="it has ended"
            )
        )
    return list(found.values())


def mark_sent(session: Session, sent: Iterable[OfferedTask | CancelItem], now: int) -> None:
    """Note that these were published; they come again after `resend_after`."""
    offered: defaultdict[str, list[tuple[str, int, int]]] = defaultdict(list)
    for item in sent:
        run, _, ordinal = item.task.rpartition("-")
        column = "sent_at" if isinstance(item, OfferedTask) else "cancel_sent_at"
        offered[column].append((run, int(ordinal), item.attempt))
    for column, keys in sorted(offered.items()):
        dispatching.mark_sent(session, keys, column, now)
    acknowledgments.mark_told(session, offered["cancel_sent_at"], now)


def wake_parked(session: Session, now: int, silence: int = SILENCE_MS) -> set[str]:
    """Tasks parked at a gateway that is online become due; returns their runs."""
    return tasks.unpark(session, dispatching.parked_at_online(session, now, silence))


def time_out(session: Session, now: int, silence: int = SILENCE_MS, limit: int = 1_000) -> set[str]:
    """End attempts past their deadline whose gateway is online and silent; returns their runs.

    Nobody may call this within a silence period of its own start: it has heard nobody yet.
    """
    rows = dispatching.overdue(session, now, silence, limit)
    stored = tasks.load(session, ((row.run, row.ordinal) for row in rows))
    # What was accepted and never begun is asked for back first: that costs no try.
    asked = {(row.run, row.ordinal) for row in rows if row.cancel is not None}
    recalled = [
        key
        for key, task in stored.items()
        if task.facts.status is TaskStatus.ACCEPTED and not task.facts.begun and key not in asked
    ]
    dispatching.recall(session, recalled, now + task_rules.GRACE_MS)
    for key in recalled:
        del stored[key]
    facts = runs.load_facts(session, {run for run, _ in stored})
    failure = Failure(code="gateway_silent", text="no report within the deadline")
    moves = [
        Move(
            task,
            task_rules.close(task.facts, facts[task.run], TaskStatus.TIMED_OUT, failure, now),
        )
        for task in stored.values()
        if task.facts.status in _STARTED
    ]
    tasks.save_moves(session, moves, now, counts.SWEEP_SHARD)
    return {move.task.run for move in moves}


_STARTED: Final = {TaskStatus.ACCEPTED, TaskStatus.RUNNING}
