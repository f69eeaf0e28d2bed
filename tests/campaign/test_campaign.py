"""Twenty-five stories of the campaign: whatever dies, devices and records agree in the end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaign.play import Setting, play_one
from tests.campaign.story import make_story
from tests.kit.brokers import MOSQUITTO

STORIES = {0: range(0, 9), 1: range(9, 17), 3: range(17, 25)}  # by stage


@pytest.fixture
def setting(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Setting]:
    def make_database() -> str:
        url: str = request.getfixturevalue("postgres_url")
        return url

    yield Setting(tmp_path, make_database)


# Stage 0 has NATS and SQLite, 1 mosquitto and SQLite, 3 mosquitto and PostgreSQL.
@pytest.mark.row("E1", "E9")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=[pytest.mark.campaign] if n else []) for n in STORIES]
)
def test_every_promise_is_kept_whatever_dies(setting: Setting, number: int) -> None:
    if number % 2 and not MOSQUITTO.exists():
        pytest.skip(f"{MOSQUITTO} is missing: apt install mosquitto")
    with setting.stage(number) as stage:
        for seed in STORIES[number]:
            one = play_one(stage, make_story(seed))
            assert not one.problems, "\n".join([str(one.story), *one.problems])
