"""The blocking client is the asynchronous one, translated; nobody edits it."""

from pathlib import Path

import roundsman
from tests.kit.unasync import generated

SYNC = Path(roundsman.__file__).parent / "_sync"


def test_the_blocking_client_is_what_the_generator_makes():
    found = {path.name: path.read_text() for path in SYNC.glob("*.py")}
    assert found == generated(), "run: python -m tests.kit.unasync"


def test_nothing_asynchronous_is_left_in_it():
    for path in SYNC.glob("*.py"):
        for word in ("async", "await", "asyncio"):
            assert word not in path.read_text().replace("`_async`", "").replace("unasync", "")
