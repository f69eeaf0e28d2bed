"""Which test proves which row of docs/features.md: `python -m tests.kit.rows`."""

import contextlib
import io
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

FEATURES = Path(__file__).resolve().parents[2] / "docs" / "features.md"


class RowCollector:
    """A pytest plug-in that gathers the `row` markers of all collected tests."""

    def __init__(self) -> None:
        self.tests_by_row: defaultdict[str, list[str]] = defaultdict(list)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            for marker in item.iter_markers("row"):
                for row in marker.args:
                    test = item.nodeid.split("[")[0]
                    if test not in self.tests_by_row[row]:
                        self.tests_by_row[row].append(test)


def known_rows(text: str) -> list[str]:
    """The ids of a features page, one line each: table rows or list items that begin with one."""
    return re.findall(r"^\s*(?:\||-|\*)\s*`?([A-Z]\d+)`?\b", text, re.MULTILINE)


def unknown_rows(tests_by_row: dict[str, list[str]], known: Sequence[str]) -> list[str]:
    return sorted(set(tests_by_row) - set(known), key=in_order)


def in_order(row: str) -> tuple[str, int]:
    return row[:1], int(row[1:]) if row[1:].isdigit() else 0


def render(tests_by_row: dict[str, list[str]], known: Sequence[str]) -> str:
    """Each row with its tests; a known row without any says so."""
    lines = []
    for row in sorted({*tests_by_row, *known}, key=in_order):
        lines.append(row)
        lines += [f"  {test}" for test in sorted(tests_by_row.get(row, []))] or ["  no test yet"]
    proven = sum(1 for row in known if tests_by_row.get(row)) if known else len(tests_by_row)
    lines.append(f"{proven} of {len(known) or proven} rows have tests")
    return "\n".join(lines)


def main() -> int:
    collector = RowCollector()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):  # the rows are ours to print
        code = pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider"], plugins=[collector])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        print(said.getvalue(), file=sys.stderr)
        return int(code)
    known = known_rows(FEATURES.read_text()) if FEATURES.exists() else []
    print(render(dict(collector.tests_by_row), known))
    unknown = unknown_rows(dict(collector.tests_by_row), known) if known else []
    if unknown:
        print(f"not in {FEATURES.name}: {', '.join(unknown)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
