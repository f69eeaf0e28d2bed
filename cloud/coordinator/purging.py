"""Removing what deleted jobs leave behind, a chunk in each transaction.

It needs no cursor: what is left of a run is what is still to be removed.
"""

from typing import Final

from cloud.storage import purging
from cloud.storage.database import Session

# 2,000 rows are some 20 ms of one transaction: nobody has to wait for what is merely old.
AT_ONCE: Final = 2_000


def purge_chunk(session: Session, run: str, now: int, limit: int = AT_ONCE) -> bool:
    """Remove the next rows of a run of a deleted job; says whether there are more of it.

    The last chunk leaves a tombstone, by which whoever asks for the run is told that it is gone.
    """
    found = purging.find(session, run)
    if found is None:
        return False
    gone, was_removed = found
    left = min(limit, AT_ONCE)
    for table in purging.OF_RUNS:
        left -= purging.delete_some(session, table, run, left)
        if left <= 0:
            return True
    if purging.delete_others(session, gone.org, run, left) >= left:
        return True
    if was_removed:
        purging.note_swept(session, run)
    else:
        purging.leave_tombstone(session, gone, now)
    return False
