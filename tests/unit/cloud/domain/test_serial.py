"""Whose turn it is, and what is handed on."""

from hypothesis import given
from hypothesis import strategies as st

from cloud.domain.dispatch import SILENCE_MS, DueTask, GatewayFacts, Rules, Taken
from cloud.domain.serial import MAX_ACCUMULATOR_BYTES, Turn, choose_turn, handed_on, is_over
from contract.lifecycle import TASK_ENDS, TASK_OPEN, TaskStatus

NOW = 10_000_000
AFTER = 300_000
STATUSES = st.sampled_from(list(TaskStatus))
TURNS = st.builds(
    Turn,
    status=STATUSES,
    is_parked=st.booleans(),
    is_stranded=st.booleans(),
    due_at=st.integers(0, NOW + AFTER),
    since=st.integers(0, NOW),
)


@given(TURNS)
def test_the_next_target_waits_for_the_one_before_but_never_for_ever(turn: Turn):
    over = is_over(turn, NOW, AFTER)
    if turn.status in TASK_ENDS or turn.is_stranded:
        assert over
    elif turn.status in TASK_OPEN:
        assert not over
    else:
        assert over == (turn.is_parked and NOW - max(turn.since, turn.due_at) >= AFTER)
        if turn.is_parked:
            assert is_over(turn, NOW + 3 * AFTER, AFTER)


def gateway(silent: int) -> GatewayFacts:
    name = f"gateway-{silent}"
    return GatewayFacts(name, "journal", "session", NOW - silent, None, frozenset())


@given(st.lists(st.sampled_from([0, SILENCE_MS + 1, AFTER + 1]), max_size=8))
def test_at_most_one_starts_and_only_the_long_silent_are_passed_over(silences: list[int]):
    due = [
        DueTask("run", n, f"run-{n}", f"pump-{n}", None, gateway(silent))
        for n, silent in enumerate(silences)
    ]
    rules = Rules(frozenset(), None)
    choice = choose_turn(due, rules, AFTER, Taken(), NOW, SILENCE_MS)
    assert len(choice.offer) <= 1
    first = next((n for n, silent in enumerate(silences) if silent <= AFTER), None)
    if first is None:
        assert [task.ordinal for task, _ in choice.park] == list(range(len(due)))
    elif silences[first] == 0:
        assert [task.ordinal for task in choice.offer] == [first]
    else:
        assert (choice.offer, choice.park[-1][0].ordinal) == ([], first)


def test_an_end_without_a_value_hands_on_what_was_there():
    assert handed_on('{"a": 1}', None) == '{"a": 1}'
    assert handed_on("null", [1, "ü"]) == '[1, "ü"]'
    assert handed_on("null", "x" * MAX_ACCUMULATOR_BYTES) is None
