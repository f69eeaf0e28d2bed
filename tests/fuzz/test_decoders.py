"""No decoder raises anything but its own error, or takes more memory than its bound.

The same harnesses run under atheris: `make fuzz`.
"""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import binary, texts
from tests.fuzz.harness import FOUND, Harness

pytestmark = pytest.mark.row("E3", "E4", "E6")

HARNESSES = {harness.name: harness for harness in (*binary.HARNESSES, *texts.HARNESSES)}
CUT, FLIP, PUT, DOUBLE = range(4)
# What hurts decoders: lengths that are not there, depth, huge numbers, half characters.
NASTY = (
    b"", b"\xff" * 9, b"\x9b" + b"\xff" * 8, b"\x5b\x00\x00\x00\x7f\xff\xff\xff\xff", b"\x9f" * 400,
    b"\xbb\x00\x00\x00\x00\xff\xff\xff\xff", b"\xd8\x1c\x81\xd8\x1d\x00",
    b"\xc4\x82\x1b" + b"\xff" * 8 + b"\x01",
    b"[" * 900 + b"]" * 900, b"9" * 4_301, b"1e999", b"NaN", b'"\\ud800"', b"\x00", b"\xed\xa0\x80",
    b"&a [*a]", b"{{ 9**9**9 }}", b"bytes=" + b"9" * 5_000 + b"-",
)  # fmt: skip
CHANGES = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5_000), st.binary(max_size=8)), max_size=5
)


def changed(seed: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    data = bytearray(seed)
    for kind, place, more in changes:
        at = place % (len(data) + 1)
        if kind == CUT:
            del data[at:]
        elif kind == FLIP and data:
            data[at % len(data)] ^= more[0] if more else 1
        elif kind == PUT:
            data[at:at] = NASTY[place % len(NASTY)] if len(more) < 2 else more
        elif kind == DOUBLE:
            data[at:at] = data[: at % 300]
    return bytes(data)


@pytest.mark.parametrize("name", HARNESSES)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_bytes_end_in_a_value_or_the_decoders_own_error(name: str, data: st.DataObject) -> None:
    harness = HARNESSES[name]
    seed = data.draw(st.sampled_from([*harness.seeds, b""]))
    harness.run(changed(seed, data.draw(CHANGES)))
    harness.run(data.draw(st.binary(max_size=200)))


def nasty(harness: Harness) -> list[bytes]:
    """What hurts, alone and at several places of each seed, and what was found before."""
    seeds = [bytes(seed) for seed in harness.seeds]
    mixed = [
        seed[: len(seed) * part // 4] + each + seed[len(seed) * part // 4 :]
        for seed in seeds[:2]
        for each in NASTY
        for part in (1, 2, 3)
    ]
    first = seeds[0][:1] if seeds else b""
    return [*seeds, *NASTY, *(first + each for each in NASTY), *mixed, *harness.found()]


@pytest.mark.parametrize("name", HARNESSES)
def test_what_hurts_stays_within_the_bound_of_memory(name: str) -> None:
    harness = HARNESSES[name]
    for seed in harness.seeds[:1]:
        harness.run(seed)  # what is imported and cached at the first time is no part of it
    for data in nasty(harness):
        harness.run_measured(data)


def test_what_was_found_belongs_to_a_harness() -> None:
    assert {path.name for path in FOUND.iterdir() if path.is_dir()} <= HARNESSES.keys()


def test_every_harness_stands_in_the_page_of_doors() -> None:
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "bad-input.md").read_text()
    assert [name for name in HARNESSES if f"`{name}`" not in page] == []
