"""Who may start, in which order, and where the others wait."""

from hypothesis import given
from hypothesis import strategies as st

from cloud.domain.dispatch import (
    AGES_MS,
    CONFLICT_MS,
    SILENCE_MS,
    DueTask,
    GatewayFacts,
    Rules,
    Taken,
    Waiter,
    choose,
    hold_place,
    in_turn,
    reason,
    slots,
    stopped_place,
)

NOW = 1_000_000
BERLIN = GatewayFacts("berlin", "journal", "session", NOW, None, frozenset({"flow.log"}))
RULES = Rules(frozenset({"flow.log"}), None)


def due(number: int, gateway: GatewayFacts | None = BERLIN, held_by: str | None = None) -> DueTask:
    return DueTask("run", number, f"run-{number}", f"pump-{number}", held_by, gateway)


def gateway(**changes: object) -> GatewayFacts:
    facts = {name: getattr(BERLIN, name) for name in GatewayFacts.__slots__}
    return GatewayFacts(**{**facts, **changes})


def play(*tasks: DueTask, free: int = 10, rules: Rules = RULES) -> tuple[list[int], list[str]]:
    choice = choose(tasks, rules, free, Taken(), NOW, SILENCE_MS)
    return [task.ordinal for task in choice.offer], [place for _, place in choice.park]


def test_the_first_ones_start_while_there_are_slots():
    assert play(due(0), due(1), due(2), free=2) == ([0, 1], [])


def test_each_hindrance_has_its_place_to_wait():
    tasks = [
        due(0, None),
        due(1, gateway(last_heard_at=NOW - SILENCE_MS - 1)),
        due(2, gateway(session=None)),
        due(3, gateway(conflict_at=NOW - CONFLICT_MS)),
        due(4, gateway(verbs=frozenset())),
        due(5, held_by="other-1"),
        due(6, held_by="run-6"),
    ]
    places = ["device:pump-0", *["gateway:berlin"] * 4, "device:pump-5"]
    assert play(*tasks) == ([6], places)


def test_a_stopped_gateway_is_offered_nothing_until_a_person_starts_it():
    stopped = gateway(is_stopped=True)
    assert play(due(0, stopped), due(1)) == ([1], [stopped_place("berlin")])
    # Offline as well: to come back would not help it.
    away = gateway(is_stopped=True, session=None)
    assert reason(due(0, away), RULES, {}, NOW, SILENCE_MS) == (
        "gateway_stopped",
        "stopped:berlin",
    )


def test_a_gateway_takes_no_more_than_allowed():
    rules = Rules(frozenset(), per_gateway=2)
    assert play(due(0), due(1), due(2), rules=rules) == ([0, 1], ["slots:berlin"])


def test_a_run_finds_gone_what_a_more_urgent_one_has_taken():
    taken = Taken()
    choose([due(1)], RULES, 5, taken, NOW, SILENCE_MS)
    other = DueTask("other", 7, "other-7", "pump-1", None, BERLIN)
    choice = choose([other], RULES, 5, taken, NOW, SILENCE_MS)
    assert choice.park == [(other, "device:pump-1")]


TASKS = st.builds(
    lambda number, bus, site, device: DueTask(
        "run", number, f"run-{number}", device, None, BERLIN, bus=bus, site=site
    ),
    st.integers(0, 1_000),
    st.sampled_from(["", "tty1", "tty2"]),
    st.sampled_from(["", "mitte", "wedding"]),
    st.integers(0, 9).map(lambda n: f"pump-{n}"),
)
LIMITS = st.builds(
    Rules,
    st.just(frozenset({"flow.log"})),
    st.none() | st.integers(1, 4),
    st.none() | st.integers(1, 3),
    st.none() | st.integers(1, 3),
    st.sampled_from(
        [frozenset(), frozenset({("site", "mitte")}), frozenset({("device", "pump-1")})]
    ),
)


@given(st.lists(TASKS, unique_by=lambda task: task.ordinal), LIMITS, st.integers(0, 12))
def test_no_limit_is_passed_and_who_is_parked_has_a_true_reason(
    due_tasks: list[DueTask], rules: Rules, free: int
):
    taken = Taken()
    choice = choose(due_tasks, rules, free, taken, NOW, SILENCE_MS)
    assert len(choice.offer) <= free
    devices = [task.device for task in choice.offer]
    assert len(devices) == len(set(devices))
    used: dict[str, int] = {}
    for task in choice.offer:
        assert ("device", task.device) not in rules.holds
        assert ("site", task.site) not in rules.holds
        for place, limit, _ in slots(task, rules):
            used[place] = used.get(place, 0) + 1
            assert used[place] <= limit
    for task, place in choice.park:
        why = reason(task, rules, taken.in_flight, NOW, SILENCE_MS)
        assert why is not None or task.device in devices
        full = {name for name, limit, _ in slots(task, rules) if used.get(name, 0) >= limit}
        assert place in full or place.startswith(("device:", "hold:"))


def test_a_hold_is_stronger_than_anything():
    rules = Rules(frozenset(), None, holds=frozenset({("gateway", "berlin")}))
    assert play(due(0), rules=rules) == ([], [hold_place("gateway", "berlin")])


WAITERS = st.lists(
    st.builds(
        Waiter,
        st.uuids().map(str),
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 2),
        st.integers(0, NOW),
        st.integers(0, NOW),
    ),
    unique_by=lambda waiter: waiter.run,
)


@given(WAITERS)
def test_orgs_take_turns_and_who_waits_long_enough_comes_first(waiters: list[Waiter]):
    order = in_turn(waiters, NOW)
    assert sorted(w.run for w in order) == sorted(w.run for w in waiters)
    orgs = {waiter.org for waiter in waiters}
    assert {waiter.org for waiter in order[: len(orgs)]} == orgs
    for waiter in waiters:
        others = [w for w in waiters if w.org == waiter.org and w is not waiter]
        fresh = [Waiter(w.run, w.org, w.priority, NOW, w.created_at) for w in others]
        later = [Waiter(waiter.run, waiter.org, waiter.priority, NOW - 3 * AGES_MS, 0), *fresh]
        assert in_turn(later, NOW)[0].run == waiter.run
