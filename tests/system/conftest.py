"""What stories of the whole product share: a rig of real processes."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.kit.processes import Programs
from tests.kit.rig import Rig


class MakeRig(Protocol):
    def __call__(self, **choices: Any) -> Rig: ...


@pytest.fixture
def make_rig(tmp_path: Path, programs: Programs) -> Iterator[MakeRig]:
    """A started rig with these choices (`broker`, `database`, `settings`); ended by the test."""
    with ExitStack() as stack:

        def make(**choices: Any) -> Rig:
            return stack.enter_context(Rig(tmp_path, programs, **choices))

        yield make


@pytest.fixture
def rig(make_rig: MakeRig) -> Rig:
    """SQLite and an external NATS."""
    return make_rig()
