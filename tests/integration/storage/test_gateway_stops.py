"""A gateway that is stopped drains: nothing is offered, what has begun ends; both databases."""

from pathlib import Path

import pytest

from cloud.coordinator import gateway_stops, previews, runs
from cloud.errors import Invalid
from cloud.storage.views import gateways as views
from contract.http.fleet import Gateway
from contract.http.operations import StopGateways
from contract.http.runs import CancelRun
from contract.ids import DEFAULT_ORG
from contract.job_document import JobDocument
from contract.lifecycle import RunStatus
from contract.messages import OfferedTask
from tests.integration.storage.test_operations import Office
from tests.integration.storage.world import JOB, World, snapshot

pytestmark = pytest.mark.row("A11")


@pytest.fixture
def office(world: World, tmp_path: Path) -> Office:
    return Office(world, tmp_path)


def ask(office: Office, verb: str, *gateways: str, **which: object) -> str:
    world = office.world
    run = f"operation-{next(world.numbers)}"
    asked = StopGateways.model_validate({"gateways": gateways, **which})
    world.run_now(gateway_stops.start, world.caller, f"{verb}_gateways", asked, run, world.now)
    return run


def rounds(office: Office, number: int = 3) -> None:
    for _ in range(number):
        office.step()


def shown(world: World, gateway: str = "berlin") -> Gateway:
    return world.database.read_now(views.get_gateway, DEFAULT_ORG, gateway, world.now)


def waits(world: World, run: str) -> list[str | None]:
    total = world.run(run).counts.total
    found = [world.task(f"{run}-{n}").waiting_for for n in range(total)]
    return [wait.code if wait else None for wait in found]


def busy(world: World) -> tuple[str, list[OfferedTask]]:
    """A run on four devices of one gateway: one has begun, one is accepted, one offered."""
    world.join("berlin", [f"pump-{n}" for n in range(4)])
    run = world.start_new(iteration={"concurrency": 3})
    world.dispatch()
    offered = world.send()["berlin"]
    world.report("berlin", snapshot(offered[0], "running", 1))
    world.report("berlin", snapshot(offered[1], "accepted", 1))
    return run, offered


def later(world: World) -> None:
    """What was handed back is due again."""
    world.now += 60_000
    world.hear("berlin")


def test_it_is_stopped_when_what_has_begun_has_ended(office: Office):
    world = office.world
    run, offered = busy(world)
    stop = ask(office, "stop", "berlin", reason="new cable")
    rounds(office)
    assert (shown(world).state, shown(world).stop_run) == ("stopping", stop)
    assert world.run(stop).status is RunStatus.RUNNING
    # Two are asked for back, and nothing new is offered.
    recalled = world.sql("SELECT ordinal FROM tasks WHERE cancel = 'recall' ORDER BY ordinal")
    assert recalled == [(1,), (2,)]
    for task in offered[1:]:
        world.report("berlin", snapshot(task, "scheduled", 2))
    later(world)
    assert world.dispatch().offered == 0
    assert waits(world, run) == [None, *["gateway_stopped"] * 3]
    rounds(office)
    assert world.run(stop).progress == pytest.approx(200 / 3)
    assert world.run(stop).results["waiting_for"] == ["berlin"]
    world.report("berlin", snapshot(offered[0], "succeeded", 2))
    ended = office.finish(stop)
    assert ended.status is RunStatus.SUCCEEDED
    assert ended.results == {
        "gateways": 1, "asked": 1, "stopped": 1, "in_flight": 3, "finished": 1, "handed_back": 2,
    }  # fmt: skip
    assert shown(world).state == "stopped"
    assert world.sql("SELECT * FROM gateway_drains") == []
    # A hello, a restart of everything and the next look change nothing of that.
    world.hello("berlin", [f"pump-{n}" for n in range(4)])
    assert world.dispatch().offered == 0
    started = office.finish(ask(office, "start", "berlin"))
    assert started.results == {"gateways": 1, "started": 1}
    assert (shown(world).state, shown(world).waiting_for) == ("working", None)
    assert world.play(run).status is RunStatus.SUCCEEDED
    world.check()


def test_parked_tasks_are_not_looked_at_until_it_is_started(office: Office):
    world = office.world
    world.join("berlin", ["pump-1"])
    office.finish(ask(office, "stop", all=True))
    run = world.start_new()
    world.dispatch()
    assert world.sql("SELECT parked FROM tasks") == [("stopped:berlin",)]
    wait = world.run(run).waiting_for
    assert wait is not None and wait.code == "gateway_stopped"
    office.finish(ask(office, "start", query={"id": "berlin"}))
    assert world.sql("SELECT parked FROM tasks") == [(None,)]
    assert world.dispatch().offered == 1


def test_a_look_that_finds_nothing_new_writes_nothing(office: Office):
    world = office.world
    busy(world)
    stop = ask(office, "stop", "berlin")
    rounds(office)
    before = world.sql("SELECT operation, results FROM runs WHERE id = :r", r=stop)
    assert world.database.read_now(gateway_stops.look, stop) is None
    rounds(office)
    assert world.sql("SELECT operation, results FROM runs WHERE id = :r", r=stop) == before


def test_cancelled_it_takes_the_wish_back(office: Office):
    world = office.world
    run, offered = busy(world)
    stop = ask(office, "stop", "berlin")
    rounds(office)
    for task in offered[1:]:
        world.report("berlin", snapshot(task, "scheduled", 2))
    later(world)
    world.dispatch()
    world.run_now(runs.cancel_run, world.caller, stop, CancelRun(), world.now)
    assert office.finish(stop).status is RunStatus.CANCELLED
    assert shown(world).state == "working"
    assert world.sql("SELECT * FROM gateway_drains") == []
    world.report("berlin", snapshot(offered[0], "succeeded", 2))
    assert world.play(run).status is RunStatus.SUCCEEDED


def test_started_while_it_drains_it_works_on_and_the_stop_has_ended(office: Office):
    world = office.world
    busy(world)
    stop = ask(office, "stop", "berlin")
    rounds(office)
    office.finish(ask(office, "start", "berlin"))
    ended = office.finish(stop)
    assert ended.results.get("stopped", 0) == 0
    assert shown(world).state == "working"


@pytest.mark.row("A3")
def test_a_preview_says_who_would_wait_for_it(office: Office):
    world = office.world
    world.join("berlin", ["pump-1"])
    office.finish(ask(office, "stop", "berlin"))
    document = JobDocument.model_validate(JOB)
    found = world.database.read_now(previews.preview_document, DEFAULT_ORG, document, world.now)
    assert [(one.reason, one.count) for one in found.excluded] == [("gateway_stopped", 1)]


def test_unknown_gateways_and_empty_selections_are_refused(office: Office):
    with pytest.raises(Invalid, match="there is no gateway `nobody`"):
        ask(office, "stop", "nobody")
    with pytest.raises(Invalid, match="say which, or `all`"):
        ask(office, "stop")
