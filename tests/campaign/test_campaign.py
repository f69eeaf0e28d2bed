"""Twenty-five stories of the campaign: whatever dies, devices and records agree in the end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaign.play import Setting, play_one
from tests.campaign.story import make_story
from tests.kit.brokers import MOSQUITTO
from tests.kit.warm_starts import WarmStarts

# By stage: 0 has NATS and SQLite, 1 mosquitto and SQLite, 3 mosquitto and PostgreSQL. Each in two
# parts, for two workers.
STORIES = [
    (0, range(0, 5)), (0, range(5, 9)), (1, range(9, 13)), (1, range(13, 17)),
    (3, range(17, 21)), (3, range(21, 25)),
]  # fmt: skip


@pytest.fixture
def setting(
    tmp_path: Path, request: pytest.FixtureRequest, warm_starts: WarmStarts | None
) -> Iterator[Setting]:
    def make_database() -> str:
        url: str = request.getfixturevalue("postgres_url")
        return url

    yield Setting(tmp_path, make_database, warm_starts)


@pytest.mark.row("E1", "E9")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("number", "seeds"),
    [pytest.param(number, seeds, id=f"{number}-{seeds[0]}") for number, seeds in STORIES],
)
def test_every_promise_is_kept_whatever_dies(setting: Setting, number: int, seeds: range) -> None:
    if number % 2 and not MOSQUITTO.exists():
        pytest.skip(f"{MOSQUITTO} is missing: apt install mosquitto")
    with setting.stage(number) as stage:
        for seed in seeds:
            one = play_one(stage, make_story(seed))
            assert not one.problems, "\n".join([str(one.story), *one.problems])
