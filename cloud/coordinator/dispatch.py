"""Offering what may start, and what is to be sent to gateways: the task table is the outbox."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import JsonValue

from cloud.domain import tasks as task_rules
from cloud.domain.counts import Deltas
from cloud.domain.dispatch import SILENCE_MS, DueTask, GatewayFacts, Rules, Taken, choose
from cloud.storage import counts, dispatching, runs, target_documents, tasks
from cloud.storage.database import Session
from cloud.storage.targets import SHAPES
from cloud.storage.tasks import Key, Move
from contract.ids import GatewayId, OrgId, task_id
from contract.lifecycle import TaskStatus
from contract.messages import CancelItem, Failure, JobBody, OfferedTask
from contract.topics import Address

# What one tick looks at, over all runs: about 100 ms of one transaction.
LOOKED_AT: Final = 1_000
RESEND_AFTER_MS: Final = 10_000


@dataclass
class Dispatched:
    """What a tick did. `more`: it stopped at its limit, so go on at once."""

    offered: int = 0
    runs: set[str] = field(default_factory=set)
    gateways: set[Address] = field(default_factory=set)
    more: bool = False


@dataclass
class Offering:
    """Offers for one gateway in session; split them to the size of messages, then mark them."""

    address: Address
    session: str
    tasks: list[OfferedTask] = field(default_factory=list)
    bodies: dict[str, JobBody] = field(default_factory=dict)


@dataclass
class Cancelling:
    """Cancels for one gateway in session."""

    address: Address
    session: str
    items: list[CancelItem] = field(default_factory=list)


def offer_due(session: Session, now: int, silence: int = SILENCE_MS) -> Dispatched:
    """Move due tasks to `offered`, as slots, devices and gateways allow.

    A task that its gateway or device blocks is parked there, and wakes when that frees.
    """
    done, deltas, taken = Dispatched(), Deltas(), Taken()
    live = dispatching.live_runs(session, now)
    totals = counts.totals(session, [run.id for run in live])
    budget = LOOKED_AT
    for run in live:
        free = run.concurrency - totals[run.id].slots_taken
        while free > 0 and budget > 0:
            limit = min(free, budget)
            looked_at, offered = _offer_of_run(session, run, limit, taken, deltas, now, silence)
            budget -= looked_at
            free -= len(offered)
            done.offered += len(offered)
            done.runs.update(task.run for task in offered)
            done.gateways.update(
                Address(OrgId(run.org), GatewayId(task.gateway.id))
                for task in offered
                if task.gateway
            )
            if looked_at < limit:
                break
        if budget <= 0:
            done.more = True
            break
    counts.move(session, deltas, counts.DISPATCH_SHARD)
    return done


def _offer_of_run(
    session: Session,
    run: Any,
    limit: int,
    taken: Taken,
    deltas: Deltas,
    now: int,
    silence: int,
) -> tuple[int, Sequence[DueTask]]:
    rows = dispatching.due_tasks(session, run.id, now, limit)
    if not rows:
        return 0, []
    held = dispatching.devices(session, run.org, (row.device for row in rows if row.device))
    owners = {gateway for gateway, _ in held.values() if gateway}
    owners |= {row.gateway for row in rows if row.device is None and row.gateway}
    facts = dispatching.gateways(session, run.org, owners)
    if run.per_gateway is not None:
        for gateway, number in dispatching.in_flight(session, run.org, run.id, owners).items():
            taken.in_flight[run.id, gateway] = number
    due = [_due(run.id, row, held, facts) for row in rows]
    rules = Rules(frozenset(json.loads(run.verbs)), run.per_gateway)
    choice = choose(due, rules, limit, taken, now, silence)
    dispatching.park(session, choice.park)
    dispatching.offer(session, run.org, choice.offer, now)
    for row, task in zip(rows, due, strict=True):
        if task in choice.offer:
            deltas.moved(run.id, TaskStatus(row.status), 0, TaskStatus.OFFERED, 0)
    return len(rows), choice.offer


def _due(
    run: str,
    row: Any,
    held: Mapping[str, tuple[str, str]],
    facts: Mapping[str, GatewayFacts],
) -> DueTask:
    gateway, held_by = held.get(row.device, (None, None))
    if row.device is None:
        gateway = row.gateway
    return DueTask(
        run=run,
        ordinal=row.ordinal,
        id=task_id(run, row.ordinal),
        device=row.device,
        held_by=held_by,
        gateway=facts.get(gateway) if gateway else None,
        place=f"gateway:{gateway}" if row.device is None else f"device:{row.device}",
    )


def offers_to_send(
    session: Session,
    now: int,
    gateways: Iterable[Address] | None = None,
    *,
    resend_after: int = RESEND_AFTER_MS,
    silence: int = SILENCE_MS,
    limit: int = 1_000,
) -> list[Offering]:
    """Everything in `offered` that its gateway, in session, has to hear now or again.

    `gateways` narrows it to some. Call `mark_sent` with what was published.
    """
    rows = dispatching.offers(session, now, resend_after, silence, limit)
    wanted = None if gateways is None else set(gateways)
    bodies = {
        run: JobBody.model_validate_json(text)
        for run, text in dispatching.bodies(session, {row.run for row in rows}).items()
    }
    parameters = dispatching.parameters(session, rows)
    others = _other_targets(session, rows)
    found: dict[Address, Offering] = {}
    for row in rows:
        address = Address(OrgId(row.org), GatewayId(row.gateway))
        if wanted is not None and address not in wanted:
            continue
        offering = found.setdefault(address, Offering(address, row.session))
        offering.tasks.append(_offered(row, now, parameters.get((row.run, row.ordinal))))
        offering.tasks.append(_offered(row, others.get((row.run, row.ordinal)), now))
        offering.bodies[row.body_hash] = bodies[row.run]
    return list(found.values())


def _offered(row: Any, now: int, parameters: str | None) -> OfferedTask:
    target: dict[str, JsonValue] = {"id": row.device}
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


def _offered(row: Any, other: dict[str, JsonValue] | None, now: int) -> OfferedTask:
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


def wake_parked(session: Session, now: int, silence: int = SILENCE_MS) -> set[str]:
    """Tasks parked at a gateway that is online become due; returns their runs."""
    return tasks.unpark(session, dispatching.parked_at_online(session, now, silence))


def time_out(session: Session, now: int, silence: int = SILENCE_MS, limit: int = 1_000) -> set[str]:
    """End attempts past their deadline whose gateway is online and silent; returns their runs.

    Nobody may call this within a silence period of its own start: it has heard nobody yet.
    """
    rows = dispatching.overdue(session, now, silence, limit)
    stored = tasks.load(session, ((row.run, row.ordinal) for row in rows))
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


_STARTED: Final = {TaskStatus.ACCEPTED, TaskStatus.RUNNING, TaskStatus.AWAITING}
