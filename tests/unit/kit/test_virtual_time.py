import asyncio
from datetime import UTC, datetime, timedelta

from tests.kit.virtual_time import run_in_virtual_time, virtual_now
from tests.kit.waiting import WaitedTooLong, wait_until, wait_until_async

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_thirty_days_pass_at_once_and_in_order():
    async def story() -> list[str]:
        seen: list[str] = []

        async def note(name: str, after: timedelta) -> None:
            await asyncio.sleep(after.total_seconds())
            seen.append(f"{name} {virtual_now(START):%d.%m.}")

        async with asyncio.TaskGroup() as group:
            group.create_task(note("late", timedelta(days=30)))
            group.create_task(note("early", timedelta(days=1)))
        return seen

    assert run_in_virtual_time(story()) == ["early 02.01.", "late 31.01."]


def test_a_timeout_fires_when_nothing_else_can_happen():
    async def story() -> float:
        try:
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        except TimeoutError:
            return asyncio.get_running_loop().time()
        return -1.0

    assert run_in_virtual_time(story()) == 3600


def test_waiting_for_a_condition_follows_the_virtual_clock():
    async def story() -> bool:
        async def later() -> bool:
            return asyncio.get_running_loop().time() > 50

        return await wait_until_async(later, deadline_s=60)

    assert run_in_virtual_time(story())


def test_a_condition_that_stays_false_says_what_was_hoped_for():
    try:
        wait_until(lambda: 0, deadline_s=0, message=lambda: "a device to answer")
    except WaitedTooLong as error:
        assert str(error) == "not within 0 s: a device to answer (last: 0)"
    else:
        raise AssertionError("it must be raised")
