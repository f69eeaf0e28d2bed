"""A run that waits for its time is pushed further: by a person, or once by a step."""

from datetime import UTC, datetime, timedelta

import pytest

from cloud.coordinator import control, postponing
from cloud.coordinator.calls import CallRefused
from cloud.errors import Conflict, Invalid
from contract.http.runs import PauseRun, PostponeRun
from contract.lifecycle import RunStatus
from tests.integration.storage import test_calls as calls
from tests.integration.storage.test_triggers import log_of
from tests.integration.storage.world import World

HOUR = 3_600_000


def postpone(world, run, **asked):
    wanted = PostponeRun.model_validate(asked)
    return world.run_now(postponing.postpone_run, world.caller, run, wanted, world.now)


def ms(moment):
    return round(moment.timestamp() * 1000)


@pytest.mark.row("D5")
def test_it_starts_at_its_new_time_and_not_before(world: World):
    world.join("berlin", ["pump-1"])
    start = world.now
    run = world.start(world.save(), after="1h")
    first = world.run(run)
    later = postpone(world, run, by="2h", reason="no staff")
    assert ms(later.starts_at) == start + 3 * HOUR
    assert later.expires_at - first.expires_at == timedelta(hours=2)
    at = datetime.fromtimestamp((start + 5 * HOUR) / 1000, UTC)
    assert postpone(world, run, to=at).starts_at == at
    assert postpone(world, run, to=at).starts_at == at  # said twice, done once
    assert log_of(world, run).count("run postponed") == 2
    world.now = start + 4 * HOUR
    world.hear("berlin")
    assert world.start_due() == []
    assert world.run(run).waiting_for.code == "start"
    world.now = start + 5 * HOUR
    world.hear("berlin")
    assert world.start_due() == [run]
    assert world.play(run).status is RunStatus.SUCCEEDED


@pytest.mark.row("D5")
def test_what_cannot_be_postponed_says_why(world: World):
    world.join("berlin", ["pump-1"])
    job = world.save()
    waiting = world.start(job, after="1h")
    earlier = datetime.fromtimestamp(world.now / 1000, UTC)
    for asked in ({"to": earlier}, {"by": timedelta(days=3650)}):
        with pytest.raises(Invalid):
            postpone(world, waiting, **asked)
    running = world.start(job)
    replacing = world.start(job, replace=True)
    for run, code in ((running, "run_started"), (replacing, "run_replaces")):
        with pytest.raises(Conflict) as refused:
            postpone(world, run, by="1h")
        assert refused.value.code == code
    world.cancel(waiting)
    with pytest.raises(Conflict) as refused:
        postpone(world, waiting, by="1h")
    assert refused.value.code == "run_ended"


@pytest.mark.row("D5")
def test_one_whose_time_has_come_but_not_its_turn_is_pushed_on_from_now(world: World):
    world.join("berlin", ["pump-1"])
    job = world.save()
    run = world.start(job, after="1h")
    world.run_now(control.pause_run, world.caller, run, PauseRun(), world.now)
    world.now += 2 * HOUR
    assert ms(postpone(world, run, by="1h").starts_at) == world.now + HOUR


@pytest.mark.row("D5", "A12")
def test_a_step_pushes_a_run_once_however_often_it_asks(world: World):
    waiting = world.start(world.save(name="later"), after="1h")
    before = ms(world.run(waiting).starts_at)
    step = {"id": "push", "uses": "fleet.postpone_run", "with": {"run": waiting, "by": "1h"}}
    _, offered, session = calls.asking(world, step)
    body = {"run": waiting, "by": "1h"}
    first = calls.ask(world, offered, session, "fleet.postpone_run", "push", body)
    again = calls.ask(world, offered, session, "fleet.postpone_run", "push", body)
    assert (first.fresh, again.fresh) == (True, False)
    assert first.result == again.result
    assert ms(world.run(waiting).starts_at) == before + HOUR
    world.now += 3 * HOUR
    assert world.start_due() == [waiting]
    with pytest.raises(CallRefused, match="has started"):
        calls.ask(world, offered, session, "fleet.postpone_run", "push", body, key="k-2")
