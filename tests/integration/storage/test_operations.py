"""Imports, exports and deletions as runs: in chunks, resumable, errors by line; both databases."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cloud.artifacts.disk import DiskStore
from cloud.coordinator import data_tables, imports, operations, users
from cloud.coordinator.operating import Operator
from cloud.errors import Invalid
from cloud.storage.views import targets as views
from contract.http.runs import Run
from contract.http.targets import NewTable, NewUser
from contract.ids import DEFAULT_ORG
from contract.lifecycle import RUN_ENDS, RunStatus
from contract.messages import InventoryDevice
from tests.integration.storage.world import World

pytestmark = [pytest.mark.row("A11"), pytest.mark.row("A8")]


class Office:
    """A world, a store of files, and the loop that performs operations, by hand."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.store = DiskStore(folder / "artifacts")
        self.store.prepare()
        self.folder = folder / "operations"
        self.operator = Operator(world.database, self.store, self.folder)

    def save(self, text: bytes) -> dict[str, Any]:
        async def chunks() -> AsyncIterator[bytes]:
            yield text

        stored, _ = asyncio.run(self.store.save(chunks(), 2**30, lambda path: None))
        return {"file": stored.sha256, "size": stored.size}

    def start(self, type: str, **request: Any) -> str:
        run = f"operation-{next(self.world.numbers)}"
        self.world.run_now(
            operations.start_operation, self.world.caller, type, request, run, self.world.now
        )
        return run

    def step(self) -> bool:
        async def advance() -> bool:
            _, more = await self.operator.advance(self.world.database.run, self.world.now)
            return more

        return asyncio.run(advance())

    def finish(self, run: str) -> Run:
        while self.world.run(run).status not in RUN_ENDS:
            self.step()
        return self.world.run(run)

    def read(self, run: Run) -> bytes:
        async def whole() -> bytes:
            sha256, size = str(run.results["file"]), int(str(run.results["bytes"]))
            return b"".join([chunk async for chunk in self.store.read(sha256, 0, size)])

        return asyncio.run(whole())

    def table(self, table: str, **columns: str) -> None:
        named = [{"name": name, "type": kind} for name, kind in columns.items()]
        new = NewTable.model_validate({"id": table, "columns": named})
        self.world.run_now(data_tables.create_table, self.world.caller, new, self.world.now)

    def rows(self, table: str) -> list[dict[str, Any]]:
        page = self.world.database.read_now(views.list_rows, DEFAULT_ORG, table, limit=1000)
        return [row.values for row in page.items]


@pytest.fixture
def office(world: World, tmp_path: Path) -> Office:
    return Office(world, tmp_path)


MIXED = (
    b"\xef\xbb\xbfsite,size,on,extra\r\n"
    b'berlin,3,true,"{""$ne"": """"}"\r\n'
    b"paris,three,true,1\r\n"
    b'"two\r\nlines",4.5,no,\r\n'
    b"short,1\r\n"
    b"{{ 7*7 }},,,null\r\n"
    b"bad,1,maybe,1\r\n"
    b"caf\xe9,1,true,1\r\n"
    b"last,1,false,[1]"
)


def test_good_lines_are_stored_and_bad_ones_named(office: Office):
    office.table("sites", site="text", size="number", on="boolean", extra="json")
    run = office.finish(office.start("import_rows", table="sites", **office.save(MIXED)))
    assert run.status is RunStatus.PARTIALLY_SUCCEEDED
    assert (run.results["imported"], run.results["errors"], run.has_errors) == (4, 4, True)
    assert run.progress == 100
    assert office.rows("sites") == [
        {"site": "berlin", "size": 3, "on": True, "extra": {"$ne": ""}},
        {"site": "two\r\nlines", "size": 4.5, "on": False},
        {"site": "{{ 7*7 }}"},
        {"site": "last", "size": 1, "on": False, "extra": [1]},
    ]
    reasons = {one["line"]: one["reason"] for one in run.results["first_errors"]}  # type: ignore[call-overload,index]
    assert set(reasons) == {3, 6, 8, 9}
    assert reasons[3] == "size: `three` is no number"
    assert reasons[9] == "not UTF-8"


def test_all_or_nothing_stores_nothing_of_a_file_with_a_mistake(office: Office):
    office.table("sites", site="text", size="number", on="boolean", extra="json")
    asked = {"table": "sites", "mode": "all_or_nothing"}
    run = office.finish(office.start("import_rows", **asked, **office.save(MIXED)))
    assert (run.status, run.results["imported"], run.results["errors"]) == ("failed", 0, 4)
    assert office.rows("sites") == []
    good = b"site,size\nberlin,1\nparis,2\n"
    run = office.finish(office.start("import_rows", **asked, **office.save(good)))
    assert (run.status, run.results["imported"]) == ("succeeded", 2)
    assert [row["site"] for row in office.rows("sites")] == ["berlin", "paris"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"site,colour\nx,red\n", "no such column"),
        (b"site,site\nx,y\n", "a column stands twice"),
        (b"\n\n", "the file is empty"),
        (b'site\n"' + b"x" * 600_000, "a quote left open"),
    ],
)
def test_a_file_that_cannot_be_read_fails_the_run(office: Office, text: bytes, reason: str):
    office.table("sites", site="text")
    run = office.finish(office.start("import_rows", table="sites", **office.save(text)))
    assert run.status is RunStatus.FAILED
    assert reason in run.reason
    assert office.rows("sites") == []


def test_what_is_interrupted_goes_on_and_counts_every_line_once(
    office: Office, monkeypatch: pytest.MonkeyPatch
):
    """The chunk that a crash rolled back is read again; one that was kept never is."""
    monkeypatch.setattr("cloud.coordinator.operating.BLOCK", 4_000)
    office.table("many")
    text = b"n,note\n" + b"".join(b'%d,"a ""b""\nc"\n' % n for n in range(2_000))
    run = office.start("import_rows", table="many", **office.save(text))
    before = office.world.sql("SELECT operation FROM runs WHERE id = :id", id=run)[0][0]
    assert office.step()
    stale = (run, before, text[:4_000], False, office.world.now)
    assert office.world.run_now(imports.import_chunk, *stale) is False
    assert 0 < office.world.run(run).progress < 100
    office.operator = Operator(office.world.database, office.store, office.folder)
    ended = office.finish(run)
    assert (ended.status, ended.results["imported"]) == ("succeeded", 2_000)
    numbers = office.world.sql("SELECT count(*), count(DISTINCT data) FROM data_rows")
    assert numbers == [(2_000, 2_000)]


def test_an_export_reads_back_as_it_was(office: Office):
    office.table("sites", site="text", size="number", on="boolean", extra="json")
    office.finish(office.start("import_rows", table="sites", **office.save(MIXED)))
    run = office.finish(office.start("export_rows", table="sites", query="size>=1"))
    assert (run.status, run.results["exported"]) == ("succeeded", 3)
    assert run.results["download"] == f"/api/v1/runs/{run.id}/download"
    office.table("copy", site="text", size="number", on="boolean", extra="json")
    again = office.finish(
        office.start("import_rows", table="copy", **office.save(office.read(run)))
    )
    assert again.status is RunStatus.SUCCEEDED
    assert office.rows("copy") == [row for row in office.rows("sites") if row.get("size")]
    assert list(office.folder.iterdir()) == []


def test_an_export_goes_on_after_a_crash_and_begins_anew_without_its_file(
    office: Office, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("cloud.coordinator.operations.CHUNK", 100)
    monkeypatch.setattr("cloud.coordinator.exports.CHUNK", 100)
    office.table("many")
    text = b"n\n" + b"".join(b"%d\n" % n for n in range(1_000))
    office.finish(office.start("import_rows", table="many", **office.save(text)))
    run = office.start("export_rows", table="many")
    for _ in range(3):
        office.step()
    (part,) = office.folder.iterdir()
    part.write_bytes(part.read_bytes() + b"half a chunk that was never noted")
    for _ in range(3):
        office.step()
    part.unlink()
    ended = office.finish(run)
    assert ended.results["exported"] == 1_000
    lines = office.read(ended).decode().splitlines()
    assert lines[0] == "id,n"
    assert [line.split(",")[1] for line in lines[1:]] == [str(n) for n in range(1_000)]


def test_deleting_needs_a_query_or_the_word_all(office: Office):
    office.table("many")
    office.finish(office.start("import_rows", table="many", **office.save(b"n\n1\n2\n3\n")))
    with pytest.raises(Invalid, match="would delete everything"):
        office.start("delete_rows", table="many")
    run = office.finish(office.start("delete_rows", table="many", query='n:"2"'))
    assert run.results["deleted"] == 1
    assert [row["n"] for row in office.rows("many")] == ["1", "3"]
    run = office.finish(office.start("delete_rows", table="many", all=True))
    assert (run.results["deleted"], office.rows("many")) == (2, [])


def test_an_operation_is_cancelled_paused_and_resumed(office: Office):
    office.table("many")
    run = office.start("import_rows", table="many", **office.save(b"n\n1\n"))
    office.world.cancel(run)
    ended = office.finish(run)
    assert (ended.status, office.rows("many")) == ("cancelled", [])


@pytest.mark.row("A2")
def test_users_and_device_tags_come_from_files(office: Office):
    world = office.world
    world.join("berlin", [InventoryDevice(id="pump-1", tags={"line": 1}), "pump-2"])
    world.run_now(users.create_user, world.caller, NewUser(id="ada", name="Ada"), world.now)
    text = b"id,name,tags.team\nada,,north\nbob,Bob,\nNot An Id,x,y\n"
    run = office.finish(office.start("import_users", **office.save(text)))
    assert (run.results["imported"], run.results["errors"]) == (2, 1)
    page = world.database.read_now(views.list_users, DEFAULT_ORG)
    assert [(user.id, user.name, user.tags) for user in page.items] == [
        ("ada", "Ada", {"team": "north"}),
        ("bob", "Bob", {}),
    ]
    text = b"id,tags.site\npump-1,berlin\npump-9,x\n"
    run = office.finish(office.start("import_devices", **office.save(text)))
    assert (run.results["imported"], run.results["errors"]) == (1, 1)
    assert run.results["first_errors"] == [{"line": 3, "reason": "there is no device `pump-9`"}]
    run = office.finish(office.start("export_devices", query="tags.site:berlin"))
    assert office.read(run).decode().splitlines() == [
        "id,name,type,gateway,tags.line,tags.site",
        "pump-1,,,berlin,1,berlin",
    ]
    run = office.finish(office.start("delete_devices", all=True))
    assert (run.results["deleted"], run.results["kept"]) == (0, 2)


def test_operations_are_listed_by_their_type_only(office: Office):
    office.table("many")
    run = office.finish(office.start("export_rows", table="many"))
    from cloud.storage.views import runs as run_views

    listed = office.world.database.read_now(run_views.list_runs, DEFAULT_ORG, office.world.now)
    assert listed.items == []
    listed = office.world.database.read_now(
        run_views.list_runs, DEFAULT_ORG, office.world.now, types=["export_rows"]
    )
    assert [one.id for one in listed.items] == [run.id]
    assert (listed.items[0].kind, run.data["table"]) == ("operation", "many")
