"""Twenty-five stories of the campaign: whatever dies, devices and records agree in the end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaign.play import Setting, play_one
from tests.campaign.story import make_story
from tests.kit.brokers import MOSQUITTO

STORIES_EACH = 5


@pytest.fixture
def setting(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Setting]:
    def make_database() -> str:
        url: str = request.getfixturevalue("postgres_url")
        return url

    yield Setting(tmp_path, make_database)


# Stages 0, 2 and 4 have NATS and SQLite, 1 and 3 mosquitto, 3 PostgreSQL.
@pytest.mark.row("E1", "E9")
@pytest.mark.timeout(400)
@pytest.mark.parametrize("number", range(5))
def test_every_promise_is_kept_whatever_dies(setting: Setting, number: int) -> None:
    if number % 2 and not MOSQUITTO.exists():
        pytest.skip(f"{MOSQUITTO} is missing: apt install mosquitto")
    with setting.stage(number) as stage:
        for seed in range(number * STORIES_EACH, (number + 1) * STORIES_EACH):
            one = play_one(stage, make_story(seed))
            assert not one.problems, "\n".join([str(one.story), *one.problems])
