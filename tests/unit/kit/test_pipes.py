import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.pipes import (
    BYTE_BY_BYTE,
    Line,
    PipeBroken,
    PipeBusy,
    PipeClosed,
    PipeEnd,
    cut_after,
    late,
    lossy,
    pipe,
)
from tests.kit.virtual_time import run_in_virtual_time


async def read_all(end: PipeEnd) -> list[bytes]:
    chunks = []
    while chunk := await end.read():
        chunks.append(chunk)
    return chunks


async def test_what_is_written_arrives_and_an_end_is_an_end():
    ours, theirs = pipe()
    await ours.write(b"version")
    await ours.write(b"?\n")
    ours.close()
    assert await read_all(theirs) == [b"version?\n"]
    with pytest.raises(PipeClosed):
        await ours.write(b"more")


async def test_a_slow_reader_gets_one_byte_at_a_time():
    ours, theirs = pipe(there=BYTE_BY_BYTE)
    await ours.write(b"abc")
    ours.close()
    assert await read_all(theirs) == [b"a", b"b", b"c"]


@given(st.binary(max_size=400), st.integers(0, 1000))
def test_a_lossy_line_loses_the_same_bytes_for_the_same_seed(data, seed):
    async def once() -> bytes:
        ours, theirs = pipe(there=lossy(0.2, seed=seed))
        await ours.write(data)
        ours.close()
        return b"".join(await read_all(theirs))

    first = run_in_virtual_time(once())
    assert first == run_in_virtual_time(once())
    rest = iter(data)
    assert all(byte in rest for byte in first)  # a subsequence: nothing new, nothing reordered


async def test_a_lost_write_vanishes_whole_and_a_flipped_byte_keeps_its_place():
    ours, theirs = pipe(there=Line(lost_writes=1.0), back=Line(flipped_bytes=1.0))
    await ours.write(b"gone")
    await theirs.write(b"\x00\x00")
    ours.close()
    assert await read_all(theirs) == []
    theirs.close()
    with pytest.raises(PipeClosed):
        await ours.read()


def test_a_late_line_keeps_order_and_costs_its_delay():
    async def story() -> tuple[bytes, float]:
        ours, theirs = pipe(there=late(2.5))
        await ours.write(b"one ")
        await ours.write(b"two")
        ours.close()
        text = b"".join(await read_all(theirs))
        return text, asyncio.get_running_loop().time()

    assert run_in_virtual_time(story()) == (b"one two", 2.5)


async def test_a_line_cut_after_five_bytes_gives_those_and_then_breaks_both_ways():
    ours, theirs = pipe(there=cut_after(5))
    await ours.write(b"abc")
    await ours.write(b"defg")
    assert await theirs.read() == b"abcde"
    for end in (ours, theirs):
        with pytest.raises(PipeBroken):
            await end.read()
        with pytest.raises(PipeBroken):
            await end.write(b"x")
    assert ours.bytes_sent == 5


async def test_a_cut_wakes_a_waiting_reader():
    ours, theirs = pipe()
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(read_once(theirs))
        group.create_task(cut_soon(ours))
    assert reading.result() == "broken"


async def test_two_readers_at_once_are_refused():
    ours, theirs = pipe()
    async with asyncio.TaskGroup() as group:
        group.create_task(read_once(theirs))
        await asyncio.sleep(0)
        with pytest.raises(PipeBusy):
            await theirs.read()
        await ours.write(b"x")


async def read_once(end: PipeEnd) -> str:
    try:
        return (await end.read()).decode()
    except PipeBroken:
        return "broken"


async def cut_soon(end: PipeEnd) -> None:
    await asyncio.sleep(0)
    end.cut()
