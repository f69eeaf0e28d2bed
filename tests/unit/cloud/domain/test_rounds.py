"""What holds of whole runs, whatever their tasks and gateways do: limits, order, turns, an end."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.domain.dispatch import AGES_MS, Rules
from cloud.domain.tasks import RetryPolicy, TaskFacts
from contract.lifecycle import TASK_ENDS, TASK_OPEN, TaskStatus
from tests.unit.cloud.domain.rounds import NEVER, TICK, VERBS, Job, Play, Stage

T = TaskStatus
ATTEMPTS = 3
FIRST = TaskFacts(T.SCHEDULED, 0, 0, False, 0, ATTEMPTS, None, None)
OUTCOMES = st.lists(
    st.sampled_from([T.SUCCEEDED, T.FAILED, T.TIMED_OUT]), min_size=1, max_size=ATTEMPTS
)
TASKS = st.lists(
    st.tuples(
        st.integers(0, 5),  # the device
        st.sampled_from(["berlin", "paris"]),
        OUTCOMES,
        st.sampled_from([0, TICK, 5 * TICK]),
    ),
    min_size=1,
    max_size=10,
)
RETRIES = st.builds(
    RetryPolicy,
    st.booleans(),
    st.booleans(),
    delay=st.sampled_from([0, 15_000, 60_000]),
    backoff=st.sampled_from([1.0, 2.0]),
)
LIMITS = st.builds(
    Rules,
    st.just(VERBS),
    st.none() | st.integers(1, 3),
    st.none() | st.integers(1, 2),
    st.none() | st.integers(1, 2),
)
# Longer than any of these runs can take, with every delay and every silence waited out.
LONG = 2_000


def play(name: str, tasks: Sequence[Any], concurrency: int = 5, **fields: Any) -> Play:
    """A run over these tasks; devices stand at two lines and two sites."""
    jobs = [
        Job(name, n, f"{gateway}-{device}", gateway, f"tty{device % 2}", f"site{device % 2}",
            outcomes, takes, FIRST)
        for n, (device, gateway, outcomes, takes) in enumerate(tasks)
    ]  # fmt: skip
    rules = fields.pop("rules", Rules(VERBS, None))
    return Play(name, jobs, rules, 1 if fields.get("serial") else concurrency, **fields)


def open_now(stage: Stage) -> list[Job]:
    return [task for run in stage.runs.values() for task in run.open()]


@pytest.mark.row("B1")
@pytest.mark.row("B4")
@pytest.mark.row("B14")
@given(TASKS, TASKS, st.integers(1, 4), LIMITS, RETRIES)
def test_limits_hold_at_every_moment_and_every_task_ends(
    some: Any, others: Any, concurrency: int, rules: Rules, retry: RetryPolicy
):
    runs = [
        play("a", some, concurrency, rules=rules, retry=retry),
        play("b", others, concurrency, rules=rules, retry=retry, priority=0),
    ]
    stage = Stage(runs, {})
    for _ in stage.ticks(LONG):
        devices = [task.device for task in open_now(stage)]
        assert len(devices) == len(set(devices)), "one device, one attempt"
        for run in runs:
            busy = run.open()
            assert len(busy) <= concurrency
            for of, limit in (
                (lambda task: task.gateway, rules.per_gateway),
                (lambda task: (task.gateway, task.bus), rules.per_bus),
                (lambda task: task.site, rules.per_site),
            ):
                assert limit is None or max(Counter(map(of, busy)).values(), default=0) <= limit
            for task in run.tasks:
                assert task.facts.tries <= ATTEMPTS
    for run in runs:
        assert run.is_over, run
        for task in run.tasks:
            offers = [what for _, what, ordinal in run.log if ordinal == task.ordinal]
            assert offers.count("offered") == task.facts.tries
            ended = list(task.outcomes[: task.facts.tries])
            bad = [s for s in ended if s is not T.SUCCEEDED]
            assert all(retry.covers(status) for status in bad[:-1]), "no policy, no other try"


@pytest.mark.row("B5")
@given(TASKS, RETRIES, st.sampled_from([0, 45_000]))
def test_serial_tasks_go_in_order_and_see_what_the_one_before_gave(
    tasks: Any, retry: RetryPolicy, delay: int
):
    run = play("a", tasks, serial=True, retry=replace(retry, delay=delay))
    stage = Stage([run], {})
    for _ in stage.ticks(LONG):
        assert len(run.open()) <= 1
    assert run.is_over
    order = [ordinal for _, what, ordinal in run.log if what == "offered"]
    assert order == sorted(order), "a retry comes before the next target"
    given_so_far: object = None
    for task in run.tasks:
        assert task.saw == given_so_far, "what the one before gave"
        if task.facts.status in (T.SUCCEEDED, T.FAILED):
            given_so_far = f"{task.id}/{task.facts.attempt}"


@pytest.mark.row("B4")
@given(st.integers(1, 4), st.integers(2, 8))
def test_a_waiting_retry_of_a_parallel_run_holds_no_slot(concurrency: int, more: int):
    failing = [(n, "berlin", [T.FAILED], 0) for n in range(concurrency)]
    fine = [(concurrency + n, "berlin", [T.SUCCEEDED], 0) for n in range(more)]
    run = play("a", failing + fine, concurrency, retry=RetryPolicy(delay=600_000))
    for _ in Stage([run], {}).ticks(LONG):
        waiting = [task for task in run.tasks if task.facts.status is T.RESCHEDULED]
        fresh = [task for task in run.tasks if task.facts.status is T.SCHEDULED]
        assert not (waiting and fresh) or len(run.open()) == concurrency
    assert run.is_over
    second = [at for at, what, n in run.log if what == "offered" and n == 0][1]
    assert all(at < second for at, what, n in run.log if n >= concurrency)


@pytest.mark.row("B12")
@pytest.mark.row("C13")
@given(st.integers(1, 3), st.sampled_from([1, 2]))
def test_low_priority_yields_and_gets_its_turn(urgent: int, priority: int):
    """One device that others always want as well: they come first, but not for ever."""
    wanted = [(0, "berlin", [T.SUCCEEDED], TICK)]
    low = play("low", wanted, priority=0)
    others = [play(f"u{n}", wanted * 400, priority=priority) for n in range(urgent)]
    stage = Stage([low, *others], {})
    for _ in stage.ticks(LONG):
        if low.is_over:
            break
    (turn,) = [at for at, what, _ in low.log if what == "offered"]
    assert turn > 0, "it yields"
    assert turn <= (priority + 1) * AGES_MS, "and is not left behind"


@pytest.mark.row("B14")
@given(
    TASKS,
    st.booleans(),
    st.sampled_from(["wait", "skip", "fail"]),
    st.sampled_from([0, TICK, 3 * TICK, 10 * TICK]),
    st.integers(1, 3),
)
def test_a_silent_gateway_wedges_nobody_else(
    tasks: Any, serial: bool, offline: str, since: int, concurrency: int
):
    run = play("a", tasks, concurrency, serial=serial, offline=offline)
    stage = Stage([run], {"paris": since})
    for _ in stage.ticks(LONG):
        assert len([task for task in run.open() if not task.is_stranded]) <= run.concurrency
    for task in run.tasks:
        if task.gateway == "berlin":
            assert task.facts.status in TASK_ENDS, (task, run.log)
    # And where the job says so, the run itself ends, so that the next one can start.
    if offline != "wait":
        assert run.is_over, run


@pytest.mark.parametrize("serial", [True, False])
def test_who_comes_back_goes_on_where_the_others_let_it_stand(serial: bool):
    tasks = [(0, "paris", [T.SUCCEEDED], 5 * TICK), (1, "berlin", [T.SUCCEEDED], 0)]
    run = play("a", tasks, 1, serial=serial)
    stage = Stage([run], {"paris": TICK})
    for _ in stage.ticks(LONG):
        if stage.now > 60 * TICK:
            stage.silent = {"paris": NEVER}
    assert run.is_over
    assert [task.facts.status for task in run.tasks] == [T.SUCCEEDED] * 2
    assert [task.facts.tries for task in run.tasks] == [1, 1]
    assert not [task for task in run.tasks if task.facts.status in TASK_OPEN]
