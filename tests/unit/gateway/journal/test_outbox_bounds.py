"""Ten times what an outbox may hold: it stays within its bounds, and says what it dropped."""

from pathlib import Path

import pytest

from contract.messages import DeviceState, LogLine
from gateway.journal import outbox
from gateway.journal.database import FILE_NAME, open_database
from tests.kit.attempts import an_offer
from tests.unit.gateway.journal.test_tasks import finish, take, unsent

CAP = 2_000
TOO_MANY = 10 * CAP


def lines(count, text="the pump was asked for its version"):
    return [LogLine(number=0, at=1, text=f"{text} {n}", device="pump-7") for n in range(count)]


def states(count):
    return [DeviceState(number=0, at=n, device="pump-7", values={"bar": n}) for n in range(count)]


@pytest.fixture
def journal(tmp_path: Path):
    database = open_database(tmp_path, inline=True)
    database.run_now(outbox.limit, CAP, 256_000_000)
    yield database
    database.close()


def span(db, stream, kind):
    kept = [number for number, _ in outbox.first(db, stream, kind, TOO_MANY, 10**9)]
    return (kept[0], kept[-1], len(kept)) if kept else None


@pytest.mark.row("E1")
def test_a_backlog_of_ten_times_the_cap_keeps_results_and_drops_by_class(journal, tmp_path: Path):
    journal.run_now(lambda db: (take(db, an_offer()), finish(db)))
    result = journal.run_now(unsent)
    sizes = []
    for start in range(0, TOO_MANY, 500):
        journal.run_now(outbox.add, "backlog", lines(500))
        journal.run_now(outbox.add, "backlog", states(500))
        assert journal.run_now(outbox.count) <= CAP
        if start >= 2 * CAP:
            files = tmp_path.glob(f"{FILE_NAME}*")
            sizes.append(sum(file.stat().st_size for file in files))

    dropped = journal.run_now(outbox.dropped)
    # Log lines go first; of the samples the oldest, and none that is newer than one kept.
    assert dropped == {"logs": TOO_MANY, "states": TOO_MANY - CAP}
    assert journal.run_now(span, "backlog", "logs") is None
    assert journal.run_now(span, "backlog", "states") == (TOO_MANY - CAP + 1, TOO_MANY, CAP)
    assert journal.run_now(unsent) == result
    # What was freed is used again; 4 MB of it are the write-ahead log, whatever is written.
    assert max(sizes) < 6_000_000


@pytest.mark.row("E1")
def test_a_journal_larger_than_it_may_be_drops_lines_and_never_results(journal):
    journal.run_now(outbox.limit, 10**6, 1_000_000)
    journal.run_now(lambda db: (take(db, an_offer()), finish(db)))
    for _ in range(100):
        journal.run_now(outbox.add, "live", lines(200, "x" * 400))
    kept = journal.run_now(outbox.count)
    assert 1_000 < kept < 5_000
    assert journal.run_now(outbox.dropped) == {"logs": 20_000 - kept}
    assert len(journal.run_now(unsent)) == 1


def test_a_line_that_is_too_large_keeps_its_text(journal):
    line = LogLine(number=0, at=1, text="what it says", data={"raw": "ü" * 20_000})
    state = DeviceState(number=0, at=1, device="pump-7", values={"raw": "x" * 20_000})
    journal.run_now(outbox.add, "live", [line, state])
    ((_, kept),) = journal.run_now(outbox.first, "live", "logs", 9, 10**6)
    assert LogLine.model_validate_json(kept).text == "what it says"
    assert LogLine.model_validate_json(kept).data == {"cut": True}
    ((_, kept),) = journal.run_now(outbox.first, "live", "states", 9, 10**6)
    assert DeviceState.model_validate_json(kept).values == {"cut": True}


def test_numbers_go_on_after_a_drop_so_that_a_receipt_never_frees_what_it_did_not_store(journal):
    journal.run_now(outbox.add, "live", lines(TOO_MANY // 2))
    journal.run_now(outbox.stored, "live", "logs", 5)  # a receipt for what has gone meanwhile
    assert journal.run_now(span, "live", "logs") == (TOO_MANY // 2 - CAP + 1, TOO_MANY // 2, CAP)
