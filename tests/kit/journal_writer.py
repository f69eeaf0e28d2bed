"""Writes a gateway's journal as fast as it can: `python -m tests.kit.journal_writer FOLDER [SYNC]`.

It takes offers on eight lanes and finishes them, printing `done ORDINAL REVISION` once a result is
committed and `told ORDINAL REVISION` once a revision may be reported. SYNC is a control: another
`PRAGMA synchronous` than the journal's own.
"""

import asyncio
import sys
from pathlib import Path

from gateway.domain.attempt import advance
from gateway.domain.facts import Begin, Done, Fact, Progress, Started
from gateway.journal import meta, tasks
from gateway.journal.database import Database, open_database
from tests.kit.attempts import AT, a_body, a_step, an_offer

LANES = 8
BODY = a_body(a_step("read"))


async def carry(journal: Database, boot: int, lane: str, first: int) -> None:
    for ordinal in range(first, 10**6, LANES):
        offer = an_offer(ordinal, device=lane)
        await journal.run(tasks.take_offers, [BODY], [offer], boot, AT)
        attempt = await journal.run_unsynced(tasks.next_of, lane, AT)
        if attempt is None:
            continue
        facts: list[Fact] = [Started(boot), Begin(), Progress(50, "half"), Done({"n": ordinal})]
        for place, fact in enumerate(facts):
            now = AT._replace(mono=AT.mono + 3_000 * place)
            after, _ = advance(attempt, fact, now)
            if after.revision != attempt.revision:
                run = journal.run_unsynced if after.unsynced else journal.run
                assert await run(tasks.save, after, attempt.revision, now)
                print(f"told {attempt.offer.ordinal} {after.revision}\n", end="", flush=True)
            attempt = after
        print(f"done {attempt.offer.ordinal} {attempt.revision}\n", end="", flush=True)


async def main(folder: Path, sync: str = "") -> None:
    journal = open_database(folder)
    if sync:
        # The journal sets its own whenever it changes between the two that it knows.
        journal._set_synced = lambda synced: None  # type: ignore[method-assign]
        journal._connection.execute(f"PRAGMA synchronous={sync}")
    identity = await journal.run(meta.begin, "first")
    print(f"boot {identity.boot}", flush=True)
    async with asyncio.TaskGroup() as group:
        for lane in range(LANES):
            group.create_task(carry(journal, identity.boot, f"d{lane}", lane))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:3]))
