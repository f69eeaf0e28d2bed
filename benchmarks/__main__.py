"""`python -m benchmarks [NAME ...]`: ask the questions, print the answers."""

import argparse
import importlib
import platform
import time
from pathlib import Path
from typing import Final

import psutil

from benchmarks.answers import show

QUESTIONS: Final = sorted(
    path.stem
    for path in Path(__file__).parent.glob("[a-z]*.py")
    if path.stem not in ("answers", "fleets", "load")
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(QUESTIONS)}")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each measurement")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(QUESTIONS))
    if unknown:
        parser.error(f"no such question: {', '.join(unknown)}; there are {', '.join(QUESTIONS)}")
    cores, memory = psutil.cpu_count(), psutil.virtual_memory().total / 2**30
    print(
        f"{platform.system()}, Python {platform.python_version()}, {cores} cores, {memory:.0f} GiB"
    )
    for name in options.names or QUESTIONS:
        question = importlib.import_module(f"benchmarks.{name}")
        began = time.monotonic()
        figures = question.ask(options.rounds)
        print()
        show(question.__doc__.splitlines()[0], figures)
        print(f"asked in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
