"""How a benchmark says what it found: a table of figures, each beside its reference."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One line of an answer: what was measured, all its runs, and what it is held against."""

    what: str
    unit: str
    runs: Sequence[float]
    reference: str = ""
    reference_runs: Sequence[float] = ()

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    @property
    def ratio(self) -> float | None:
        """This over its reference, by the medians."""
        if not self.reference_runs:
            return None
        return self.median / statistics.median(self.reference_runs)


def spread(runs: Sequence[float]) -> str:
    """Min / median / max, or the only one."""
    if not runs:
        return ""
    if len(runs) == 1:
        return _short(runs[0])
    return " / ".join(_short(x) for x in (min(runs), statistics.median(runs), max(runs)))


def _short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def show(title: str, figures: Sequence[Figure]) -> None:
    """Print an answer; min / median / max where there were several runs."""
    table = Table(title=title, title_justify="left")
    for name in ("what", "figure", "unit", "reference", "its figure", "ratio"):
        table.add_column(name, justify="right" if name in ("figure", "ratio") else "left")
    for figure in figures:
        ratio = figure.ratio
        table.add_row(
            figure.what,
            spread(figure.runs),
            figure.unit,
            figure.reference,
            spread(figure.reference_runs),
            "" if ratio is None else f"{ratio:.2f}",
        )
    Console(width=150).print(table)
