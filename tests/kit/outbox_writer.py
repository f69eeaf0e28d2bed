"""Fills a gateway's outbox, and tells what a report would carry: `... FOLDER`.

Nothing in it is synced by itself. `line STREAM NUMBER` and `sample ORDER` are printed once the
sender could have sent them.
"""

import asyncio
import sys
from pathlib import Path

from contract.messages import DeviceState, LogLine
from gateway.domain.retention import Stream
from gateway.journal import meta, outbox
from gateway.journal.database import open_database

AT_ONCE = 700
STREAMS: tuple[Stream, ...] = ("live", "backlog")


async def main(folder: Path) -> None:
    journal = open_database(folder)
    await journal.run(meta.begin, "first")
    await journal.run(outbox.limit, 10**6, 10**9)
    while True:
        for stream in STREAMS:
            lines = [LogLine(number=0, at=1, text="a line") for _ in range(AT_ONCE)]
            states = [DeviceState(number=0, at=1, device="pump-7") for _ in range(AT_ONCE)]
            await journal.run_unsynced(outbox.add, stream, [*lines, *states])
            for _, line in await journal.run_unsynced(outbox.first, stream, "logs", AT_ONCE, 10**7):
                last = LogLine.model_validate_json(line).number
            print(f"line {stream} {last}", flush=True)
            for _, line in await journal.run_unsynced(
                outbox.first, stream, "states", AT_ONCE, 10**7
            ):
                sample = DeviceState.model_validate_json(line)
            print(f"sample {stream} {sample.number} {sample.order}", flush=True)
            await journal.run_unsynced(outbox.stored, stream, "logs", last)
            await journal.run_unsynced(outbox.stored, stream, "states", sample.number)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
