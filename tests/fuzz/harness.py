"""One decoder under fuzz: what it is fed, what it may raise, how much memory it may take."""

import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOUND: Final = Path(__file__).parent / "found"


class TooMuchMemory(Exception):
    """A decoder took more than its bound."""


@dataclass(frozen=True)
class Harness:
    """`decode` takes any bytes and raises nothing but `errors`.

    `seeds` are bytes that it accepts, or nearly; at its peak it takes `bytes_a_byte` for each byte
    that it is given, and `floor` beside that.
    """

    name: str
    decode: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: Sequence[bytes]
    max_size: int = 4_096
    floor: int = 1_000_000
    bytes_a_byte: int = 200

    def run(self, data: bytes) -> None:
        """Raises whatever is not the decoder's own error."""
        try:
            self.decode(data[: self.max_size])
        except self.errors:
            return

    def run_measured(self, data: bytes) -> None:
        """As `run`; raises TooMuchMemory when the peak is above the bound."""
        tracemalloc.start()
        try:
            self.run(data)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        bound = self.floor + self.bytes_a_byte * len(data)
        if peak > bound:
            raise TooMuchMemory(f"{self.name}: {peak} bytes for {len(data)}, not {bound}")

    def found(self) -> list[bytes]:
        """What was found by fuzzing before, kept as examples."""
        return [path.read_bytes() for path in sorted((FOUND / self.name).glob("*"))]
