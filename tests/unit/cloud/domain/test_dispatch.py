"""Who may start, in which order, and where the others wait."""

from cloud.domain.dispatch import (
    CONFLICT_MS,
    SILENCE_MS,
    DueTask,
    GatewayFacts,
    Rules,
    Taken,
    choose,
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


def test_a_gateway_takes_no_more_than_allowed():
    rules = Rules(frozenset(), per_gateway=2)
    assert play(due(0), due(1), due(2), rules=rules) == ([0, 1], ["slots:berlin"])


def test_a_run_finds_gone_what_a_more_urgent_one_has_taken():
    taken = Taken()
    choose([due(1)], RULES, 5, taken, NOW, SILENCE_MS)
    other = DueTask("other", 7, "other-7", "pump-1", None, BERLIN)
    choice = choose([other], RULES, 5, taken, NOW, SILENCE_MS)
    assert choice.park == [(other, "device:pump-1")]
