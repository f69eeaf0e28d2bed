"""Which attempt has which device: all of them or none, in the order they were asked for."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.runner.claims import Claims

pytestmark = pytest.mark.row("E6")


async def settle():
    for _ in range(3):
        await asyncio.sleep(0)


async def test_several_are_had_at_once_and_only_once_all_are_free():
    claims = Claims()
    assert claims.try_take("a", "one")
    both = asyncio.ensure_future(claims.take(["a", "b"], "two"))
    await settle()
    assert not both.done()
    assert not claims.try_take("b", "three")  # it waits for the first who asked
    assert claims.try_take("a", "one")  # who has it may ask again
    claims.release("one")
    await both
    assert claims.held_by("two") == {"a", "b"}
    assert not claims.try_take("a", "one")
    claims.release("two")
    assert claims.try_take("b", "three")


async def test_whoever_stops_waiting_keeps_nobody_out():
    claims = Claims()
    claims.restore(["a"], "one")
    waiting = asyncio.ensure_future(claims.take(["a", "b"], "two"))
    await settle()
    waiting.cancel()
    await asyncio.wait({waiting})
    assert claims.try_take("b", "three")
    assert claims.held_by("two") == set()


async def test_two_that_overlap_have_their_turns():
    claims = Claims()
    claims.restore(["b"], "zero")
    first = asyncio.ensure_future(claims.take(["a", "b"], "one"))
    second = asyncio.ensure_future(claims.take(["a", "c"], "two"))
    await settle()
    assert not first.done() and not second.done()
    claims.release("zero")
    await first
    assert not second.done()
    claims.release("one")
    await second


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["take", "try", "release"]),
            st.sampled_from("pqr"),
            st.sets(st.sampled_from("abc"), min_size=1),
        ),
        max_size=20,
    )
)
def test_a_device_never_has_two_holders_and_in_the_end_all_are_served(words):
    async def story():
        claims, waiting = Claims(), []
        for word, holder, devices in words:
            match word:
                case "take":
                    waiting.append(asyncio.ensure_future(claims.take(devices, holder)))
                case "try":
                    claims.try_take(min(devices), holder)
                case "release":
                    claims.release(holder)
            await settle()
            held = [device for each in "pqr" for device in claims.held_by(each)]
            assert len(held) == len(set(held))
        for _ in range(len(words) + 1):
            for holder in "pqr":
                claims.release(holder)
                await settle()
        assert all(each.done() for each in waiting)

    asyncio.run(story())


async def test_who_has_a_device_takes_it_again_past_those_who_wait_for_it():
    claims = Claims()
    await claims.take(["a", "b"], "first")
    waiting = asyncio.ensure_future(claims.take(["a"], "second"))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await claims.take(["a", "b"], "first")
    claims.release("first")
    await waiting
    assert claims.holder_of("a") == "second"
