"""The journal while its disk fails: opened once it can be, watched, and tried until it works."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from gateway.errors import JournalDamaged, StorageFull
from gateway.journal import meta, outbox
from gateway.journal.database import FILE_NAME, Database, open_database
from gateway.journal.opening import set_aside
from gateway.logs import Log

RETRY_S: Final = 2.0
# Room for less would be no help to a result that waits.
ROOM_BYTES: Final = 64 * 1024

log = Log()


@contextmanager
def open_journal(
    folder: Path, new_id: str, is_new_allowed: bool, max_lines: int, max_bytes: int
) -> Iterator[tuple[Database, meta.Identity]]:
    """The journal and its identity, as soon as the disk lets it be written.

    With `is_new_allowed` a damaged one is moved aside, and begun anew under `new_id`; a sound one
    is kept. `max_lines` and `max_bytes` bound it. Raises SettingsInvalid and JournalDamaged.
    """
    told = ""
    while True:
        try:
            journal = open_database(folder)
            break
        except JournalDamaged as error:
            if not is_new_allowed:
                raise
            aside = set_aside(folder / FILE_NAME)
            log.error(
                "damaged journal moved aside: a new one begins", to=str(aside), why=str(error)
            )
        except StorageFull as error:
            told = _wait(error, told)
    try:
        while True:
            try:
                identity = journal.run_now(meta.begin, new_id)
                journal.run_now(outbox.limit, max_lines, max_bytes)
                break
            except JournalDamaged:
                raise
            except StorageFull as error:
                told = _wait(error, told)
        yield journal, identity
    finally:
        journal.close()


def _wait(error: StorageFull, told: str) -> str:
    if str(error) != told:
        log.error("waiting for the disk", why=str(error))
    time.sleep(RETRY_S)
    return str(error)


async def watch(journal: Database, tell: Callable[[], None]) -> None:
    """Say when the disk fails and when it works again, and try it until then; until cancelled.

    `tell` is called at each change.
    """
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def notice() -> None:
        loop.call_soon_threadsafe(changed.set)

    journal.on_trouble = notice
    try:
        if journal.trouble is None:
            await changed.wait()
        while True:
            changed.clear()
            trouble = journal.trouble
            if trouble is None:
                log.info("the disk works again")
            else:
                log.error("the disk fails", what=trouble.code, why=trouble.text)
            tell()
            while journal.trouble == trouble and trouble is not None:
                await asyncio.sleep(RETRY_S)
                with suppress(StorageFull):
                    await journal.run(meta.put, "room", "-" * ROOM_BYTES)
                    await journal.run(meta.put, "room", "")
            if journal.trouble is None and trouble is None:
                await changed.wait()
    finally:
        journal.on_trouble = lambda: None
