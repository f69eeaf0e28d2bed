"""Writes `roundsman/_sync` from `roundsman/_async`: `python -m tests.kit.unasync`."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2] / "roundsman"

_WORDS = (
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAsync(Iterator|Iterable|BaseTransport|Client|Roundsman)\b", r"\1"),
    (r"\bAsyncGenerator\b(\[[^,]+),", r"Generator\1, None,"),
    (r"\bAsyncGenerator\b", "Generator"),
    (r"\basynccontextmanager\b", "contextmanager"),
    (r"  # noqa: ASYNC109.*", ""),
    (r"\basyncio\b", "time"),
    (r"\b_async\b", "_sync"),
    (r"\b__aenter__\b", "__enter__"),
    (r"\b__aexit__\b", "__exit__"),
    (r"\ba(close|closing|read|iter_lines|iter_bytes)\b", r"\1"),
)


def translate(source: str, name: str) -> str:
    """The blocking twin of one written file, formatted as the house formats."""
    for pattern, word in _WORDS:
        source = re.sub(pattern, word, source)
    if name == "__init__.py":
        source = '"""The blocking client, made from `_async` by `tests/kit/unasync.py`."""\n'
    for command in (
        ["check", "--select", "I,UP028", "--unsafe-fixes", "--fix", "--quiet"],
        ["format", "--quiet"],
    ):
        source = subprocess.run(
            [
                sys.executable,
                "-m",
                "ruff",
                *command,
                "--stdin-filename",
                ROOT / "_sync" / name,
                "-",
            ],
            input=source,
            text=True,
            capture_output=True,
            check=True,
            cwd=ROOT.parent,
        ).stdout
    return source


def generated() -> dict[str, str]:
    """Every file of `_sync` by name, as it should be."""
    written = sorted((ROOT / "_async").glob("*.py"))
    return {path.name: translate(path.read_text(), path.name) for path in written}


def main() -> None:
    target = ROOT / "_sync"
    target.mkdir(exist_ok=True)
    files = generated()
    for path in target.glob("*.py"):
        if path.name not in files:
            path.unlink()
    for name, text in files.items():
        (target / name).write_text(text)


if __name__ == "__main__":
    main()
