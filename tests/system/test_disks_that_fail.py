"""The disk under a gateway fills, turns read-only or wears out: said, waited for, gone on with."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.journal.database import FILE_NAME
from tests.kit.disks import FailingDisk, failing_disk, small_disk
from tests.kit.processes import Programs
from tests.kit.rig import Rig
from tests.kit.rig_jobs import ask, command_job
from tests.kit.rig_site import Site, on_one_line
from tests.kit.waiting import wait_until

Fault = Callable[[FailingDisk, bool], None]
FAULTS: dict[str, Fault] = {
    "The disk is full": lambda disk, on: disk.limit(0 if on else None),
    "The disk is read-only": lambda disk, on: disk.set_read_only(on),
    "The disk fails": lambda disk, on: disk.break_writes(on),
}


def storage(rig: Rig) -> str:
    return str(rig.client.gateways.get("north").health.get("storage") or "")


@pytest.mark.row("E1")
@pytest.mark.parametrize("sentence", FAULTS)
def test_a_gateway_says_what_its_disk_lacks_keeps_the_result_and_goes_on_by_itself(
    rig: Rig, tmp_path: Path, programs: Programs, sentence: str
):
    with failing_disk(tmp_path / "mounted", programs) as disk:
        site = rig.add_gateway(
            "north", [on_one_line("rs485", "valve-1", "valve-2")], data_dir=disk.path / "gw"
        )
        only = {"id": "valve-1"}
        work = ask("work", "work", timeout="50s", seconds=1)
        run = rig.start(command_job("first", [work, ask("add", "after")], only))
        rig.wait_for_step(run, "valve-1", "work")
        FAULTS[sentence](disk, True)
        site.devices.wait_for("valve-1", "done", 1)
        other = rig.start(command_job("second", [ask("add", "add")], {"id": "valve-2"}))
        wait_until(lambda: storage(rig).startswith(sentence), 30, lambda: storage(rig))

        shown = rig.cli("gateways", "get", "north").output()
        assert f"STORAGE\t{sentence}: {site.data_dir}" in shown
        assert site.program.output().count("the disk fails  ") < 5
        wait_until(lambda: "message not taken" in site.program.output(), 30, site.program.tail)
        # Nothing is begun that the journal does not know.
        assert site.devices.device("valve-2")["counters"]["done"] == 0
        assert rig.task(run, "valve-1").status.value == "running"

        FAULTS[sentence](disk, False)
        rig.finish(run)
        rig.finish(other)
        wait_until(lambda: not storage(rig), 30, lambda: storage(rig))
        assert site.devices.device("valve-1")["counters"]["done"] == 2
        assert rig.task(run, "valve-1").tries == 1
        site.program.terminate()


@pytest.mark.row("E1")
def test_a_gateway_that_starts_on_a_full_disk_waits_for_room(rig: Rig, tmp_path: Path):
    with small_disk(tmp_path, 1 << 20) as disk:
        site = rig.add_gateway("north", [on_one_line("rs485", "valve-1")], data_dir=disk / "gw")
        site.program.terminate()
        for name in ("in_hand", "journal.db-wal"):
            (site.data_dir / name).unlink(missing_ok=True)
        fill(disk / "ballast")
        site.start()
        site.program.wait_for_line("waiting for the disk.*The disk is full")
        (disk / "ballast").unlink()
        site.wait_for_session()
        rig.finish(rig.start(command_job(steps=[ask("add", "add")])))
        site.program.terminate()


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        size = 4096
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2


def flip_a_page(site: Site) -> None:
    """The journal's second page, of a table, becomes what no page is."""
    with (site.data_dir / FILE_NAME).open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)


@pytest.mark.row("E1")
def test_a_damaged_journal_stops_the_gateway_until_a_person_has_it_moved_aside(rig: Rig):
    site = rig.add_gateway("north", [on_one_line("rs485", "valve-1")])
    first = rig.start(command_job("first", [ask("work", "work", timeout="50s", seconds=30)]))
    rig.wait_for_step(first, "valve-1", "work")
    journal = rig.client.gateways.get("north").journal
    site.program.terminate()
    flip_a_page(site)

    site.start()
    assert site.program.wait() == 1
    said = site.program.output()
    assert f"The journal {site.data_dir / FILE_NAME} is damaged" in said
    assert "--new-journal" in said

    renewed = rig.programs.python("gateway", site.config, "--new-journal", name="renewed")
    renewed.wait_for_line("damaged journal moved aside")
    renewed.wait_for_line("session opened")
    found = rig.finish(first, "failed")
    assert rig.task(found.id, "valve-1").failure.code == "gateway_lost"
    assert rig.client.gateways.get("north").journal != journal
    assert (site.data_dir / f"{FILE_NAME}.damaged-1").exists()

    # The word left in a unit file harms no sound journal.
    journal = rig.client.gateways.get("north").journal
    renewed.terminate()
    renewed.start()
    renewed.wait_for_line("session opened")
    assert rig.client.gateways.get("north").journal == journal


@pytest.mark.row("E1")
@pytest.mark.parametrize("broken", ["a page", "all of it"])
def test_a_cloud_with_a_damaged_database_names_it_and_does_not_start(rig: Rig, broken: str):
    rig.start(command_job(steps=[ask("add", "add")]))
    rig.cloud.terminate()
    (file,) = rig.data_dir.glob("*.db")
    if broken == "a page":
        with file.open("r+b") as page:
            page.seek(8192)
            page.write(b"\xff" * 4096)
    else:
        file.write_bytes(b"no database " * 1000)
    rig.cloud.start()
    assert rig.cloud.wait() == 1
    said = rig.cloud.output()
    assert f"{file} is damaged" in said
    assert "restore a backup" in said
