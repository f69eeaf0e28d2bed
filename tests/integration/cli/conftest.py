"""The command line in this process, against a service that answers what a story scripts."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest

from roundsman.cli.app import main
from tests.kit.fake_api import FakeApi


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with closing(FakeApi()) as running:
        yield running


@dataclass
class Said:
    code: int
    out: str
    err: str


Cli = Callable[..., Said]


@pytest.fixture
def cli(
    api: FakeApi, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> Cli:
    """Runs `roundsman ...` in this process; its exit code and what it said."""
    monkeypatch.setenv("ROUNDSMAN_URL", api.url)
    monkeypatch.setenv("ROUNDSMAN_TOKEN", "secret")
    monkeypatch.setenv("ROUNDSMAN_CONFIG_DIR", str(tmp_path / "config"))

    def run(*words: str) -> Said:
        with pytest.raises(SystemExit) as ended:
            main(words)
        out, err = capsys.readouterr()
        code = ended.value.code
        return Said(code if isinstance(code, int) else 0, out, err)

    return run
