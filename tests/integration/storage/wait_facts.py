"""Whether a reason to wait is true, told from the tables and not by the code that schedules."""

from collections.abc import Mapping
from typing import Any, Final

from contract.waiting import WAITS
from tests.integration.storage.world import World

OPEN: Final = "('offered', 'accepted', 'running')"
SILENCE: Final = 30_000
CONFLICT: Final = 90_000


def check_task(world: World, run: Mapping[str, Any], task: Mapping[str, Any], code: str) -> None:
    """The code names what stands in the task's way now, and what would end that."""
    assert WAITS[code].ends
    truth = _of_task(world, run, task)
    assert truth[code], (code, dict(run), dict(task))


def _of_task(world: World, run: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, bool]:
    now = world.now
    (device,) = _rows(world, "SELECT * FROM devices WHERE id = :id", id=task["device"])
    gateway_id = task["gateway"] if task["status"] in ("offered", "accepted") else device["gateway"]
    (gateway,) = _rows(world, "SELECT * FROM gateways WHERE id = :id", id=gateway_id)
    holds = _holds(world)
    open_here = _rows(
        world,
        f"SELECT ordinal, gateway, stranded FROM tasks WHERE run = :run AND status IN {OPEN}",
        run=run["id"],
    )
    taken = [other for other in open_here if not other["stranded"]]
    rests = _rows(
        world, "SELECT * FROM slot_rests WHERE run = :run AND until > :now", run=run["id"], now=now
    )
    turn = _rows(
        world,
        "SELECT status FROM tasks WHERE run = :run AND ordinal = :turn",
        run=run["id"],
        turn=run["turn"],
    )
    is_turn_open = bool(turn) and turn[0]["status"] not in (
        "succeeded",
        "failed",
        "timed_out",
        "cancelled",
    )
    me = f"{run['id']}-{task['ordinal']}"
    return {
        "cancelling": run["cancel"] is not None,
        "paused": "person" in run["paused_by"],
        "job_paused": "job" in run["paused_by"],
        "emergency_stop": ("org", "all") in holds,
        "hold": ("gateway", gateway_id) in holds or ("device", task["device"]) in holds,
        "gateway_stopped": gateway["stop"] != "",
        "gateway_offline": now - (gateway["last_heard_at"] or 0) > SILENCE,
        "in_conflict": now - (gateway["conflict_at"] or -CONFLICT) <= CONFLICT,
        "retry": task["due_at"] > now,
        "device_held": device["held_by"] not in (None, me),
        "per_gateway": len([o for o in open_here if o["gateway"] == gateway_id]) >= 2,
        "turn": bool(run["serial"]) and run["turn"] != task["ordinal"] and is_turn_open,
        "concurrency": len(taken) >= run["concurrency"],
        "delay": bool(rests) and len(taken) + len(rests) >= run["concurrency"],
        "acceptance": task["status"] == "offered",
        "opening": task["status"] == "accepted",
    }


def check_run(world: World, run: Mapping[str, Any], code: str | None) -> None:
    """A run that is not at work has one reason; one whose tasks run has none."""
    running = _rows(
        world, "SELECT 1 FROM tasks WHERE run = :run AND status = 'running' LIMIT 1", run=run["id"]
    )
    if run["ended_at"] is not None:
        assert code is None, (code, run)
        return
    if code is None:
        assert running, run
        return
    assert WAITS[code].ends
    others = _rows(
        world,
        "SELECT id, replaced_by FROM runs WHERE job = :job AND id <> :id AND ended_at IS NULL "
        "AND started_at IS NOT NULL",
        job=run["job"],
        id=run["id"],
    )
    if code == "replacing":
        assert [other for other in others if other["replaced_by"] == run["id"]], run
    elif code == "previous_run":
        assert others, run
    elif code in ("paused", "job_paused"):
        assert ("job" if code == "job_paused" else "person") in run["paused_by"], run
    elif code == "cancelling":
        assert run["cancel"] is not None, run


def is_surely_unknown(world: World, run: Mapping[str, Any]) -> bool | None:
    """Whether a run's state is out of everybody's sight; None where this cannot tell simply."""
    since = world.now - 86_400_000
    heard = "SELECT id FROM gateways WHERE last_heard_at >= :since"
    at_work = _rows(
        world,
        "SELECT gateway FROM tasks WHERE run = :run AND status IN "
        "('offered', 'accepted', 'running', 'awaiting')",
        run=run["id"],
    )
    if run["ended_at"] is not None or not at_work or run["paused_by"]:
        return False
    hearing = {row["id"] for row in _rows(world, heard, since=since)}
    if hearing & {row["gateway"] for row in at_work}:
        return False
    quiet = max(run["started_at"] or 0, run["offered_at"] or 0) < since
    return quiet if not hearing else None


def rows_of(world: World, table: str, where: str = "TRUE", **values: Any) -> list[dict[str, Any]]:
    return _rows(world, f"SELECT * FROM {table} WHERE {where}", **values)


def _holds(world: World) -> set[tuple[str, str]]:
    rows = _rows(world, "SELECT * FROM holds")
    return {
        (row["kind"], row["id"]) for row in rows if row["until"] is None or row["until"] > world.now
    }


def _rows(world: World, sql: str, **values: Any) -> list[dict[str, Any]]:
    from cloud.storage.dialect import fetch

    return [dict(row._mapping) for row in world.run_now(fetch, sql, **values)]
