"""Writers at once: several threads dispatch, report, cancel and settle; the counters stay true."""

from concurrent.futures import ThreadPoolExecutor

from cloud.coordinator import dispatch, runs
from cloud.errors import Conflict
from contract.http.runs import StartRun
from contract.lifecycle import RunStatus
from tests.integration.storage.world import World, snapshot

ROUNDS = 40


def test_writers_at_once_lose_nothing(world: World):
    names = ["berlin", "paris", "rome"]
    for name in names:
        world.join(name, [f"{name}-{n}" for n in range(30)])
    started = [
        world.start_new(name=f"job-{n}", iteration={"concurrency": 10, "per_gateway": 4})
        for n in range(3)
    ]

    def offer() -> None:
        for _ in range(ROUNDS):
            world.run_now(dispatch.offer_due, world.now)
            world.run_now(dispatch.wake_parked, world.now)

    def report(name: str) -> None:
        for _ in range(ROUNDS):
            offers = world.database.read_now(dispatch.offers_to_send, world.now, resend_after=0)
            for offering in offers:
                if offering.address.gateway == name:
                    done = [snapshot(task, "succeeded", 1) for task in offering.tasks]
                    world.report(name, *done)
                    world.report(name, *done)

    def settle() -> None:
        for _ in range(ROUNDS):
            for run in started:
                world.run_now(runs.settle_run, run, world.now)

    with ThreadPoolExecutor() as threads:
        futures = [threads.submit(offer), threads.submit(offer), threads.submit(settle)]
        futures += [threads.submit(report, name) for name in names]
        for future in futures:
            future.result()
    for _ in range(100):
        if all(world.settle(run).status is RunStatus.SUCCEEDED for run in started):
            break
        world.dispatch()
        for name, tasks in world.send().items():
            world.report(name, *(snapshot(task, "succeeded", 1) for task in tasks))
    assert {world.run(run).counts.succeeded for run in started} == {90}
    assert world.sql("SELECT held_by FROM devices WHERE held_by IS NOT NULL") == []
    world.check()


def test_of_many_starts_at_once_one_wins(world: World):
    job = world.save()

    def start(number: int) -> bool:
        try:
            world.run_now(
                runs.start_run, world.caller, job, StartRun(), f"race-{number}", world.now
            )
        except Conflict as conflict:
            assert conflict.code == "run_in_flight"
            return False
        return True

    with ThreadPoolExecutor(6) as threads:
        won = list(threads.map(start, range(6)))
    assert won.count(True) == 1
