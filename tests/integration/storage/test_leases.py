"""One process coordinates at a time, and one that was paused past its lease cannot write."""

import pytest

from cloud.coordinator import leases
from cloud.coordinator.leases import LeaseLost
from cloud.storage.database import Database, Session


def test_a_second_process_waits_until_the_lease_has_run_out(database: Database):
    run = database.run_now
    assert run(leases.acquire, "first") == 1
    assert run(leases.acquire, "second") is None
    assert run(leases.acquire, "first") == 1
    run(leases.release, "first", 1)
    assert run(leases.acquire, "second") == 2


def test_whoever_comes_back_after_its_lease_finds_another_term(database: Database):
    run = database.run_now
    assert run(leases.acquire, "first", 0) == 1
    assert run(leases.acquire, "first") == 2


def test_nothing_is_written_under_an_old_term(database: Database):
    def write(session: Session) -> str:
        return "written"

    run = database.run_now
    run(leases.acquire, "first")
    assert run(leases.under_lease, "first", 1, write) == "written"
    run(leases.release, "first", 1)
    run(leases.acquire, "second")
    with pytest.raises(LeaseLost):
        run(leases.under_lease, "first", 1, write)
