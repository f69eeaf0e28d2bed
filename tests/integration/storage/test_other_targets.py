"""Jobs about gateways, groups, users and rows of data tables, on both databases."""

from typing import Any

import pytest

from cloud.coordinator import data_tables, devices, groups, previews, users
from cloud.errors import CloudError, Conflict, Invalid
from cloud.storage.views import devices as device_views
from contract.http.targets import (
    ChangeMembers,
    EditDevice,
    EditGateway,
    EditGroup,
    EditUser,
    NewGroup,
    NewTable,
    NewUser,
    PreviewAsked,
)
from contract.ids import CENTRAL, DEFAULT_ORG
from contract.lifecycle import RunStatus
from contract.messages import DeviceState, InventoryDevice, OfferedTask
from tests.integration.storage.world import World, snapshot

pytestmark = pytest.mark.row("A2")


def make_group(world: World, group: str, **fields: Any) -> None:
    new = NewGroup.model_validate({"id": group, **fields})
    world.run_now(groups.create_group, world.caller, new, world.now)


def make_user(world: World, user: str, **fields: Any) -> None:
    new = NewUser.model_validate({"id": user, **fields})
    world.run_now(users.create_user, world.caller, new, world.now)


def make_table(world: World, table: str, rows: list[dict[str, Any]], **columns: str) -> None:
    named = [{"name": name, "type": kind} for name, kind in columns.items()]
    new = NewTable.model_validate({"id": table, "columns": named})
    world.run_now(data_tables.create_table, world.caller, new, world.now)
    world.run_now(data_tables.add_rows, DEFAULT_ORG, table, rows, world.now)


def offered(world: World, run: str, gateway: str) -> list[OfferedTask]:
    world.dispatch()
    return [task for task in world.send().get(gateway, []) if task.run == run]


def finish(world: World, run: str, gateway: str, tasks: list[OfferedTask]) -> None:
    for task in tasks:
        outcome = world.report(gateway, snapshot(task, "succeeded", 1))
        assert outcome.items[0].outcome == "stored"
    world.check()
    assert world.settle(run).status is RunStatus.SUCCEEDED


def test_a_task_about_a_gateway_runs_on_that_gateway(world: World):
    world.join("berlin", ["pump-1"])
    world.join("paris")
    edit = EditGateway(tags={"site": "spree"}, type="edge")
    world.run_now(devices.edit_gateway, world.caller, "berlin", edit, world.now)
    run = world.start_new(targets={"resource": "gateway", "query": {"tags.site": "spree"}})
    (task,) = offered(world, run, "berlin")
    assert task.device is None
    assert (task.target["id"], task.target["type"]) == ("berlin", "edge")
    assert task.target["tags"] == {"site": "spree"}
    finish(world, run, "berlin", [task])
    assert world.task(task.task).target == "berlin"


def test_a_group_is_one_task_with_its_members_in_scope(world: World):
    world.join("berlin", ["pump-1", "pump-2", "pump-3"])
    world.join(CENTRAL)
    make_group(world, "lab", members=["pump-1", "pump-3"], tags={"floor": 2})
    make_group(world, "all", query="id~pump-%")
    run = world.start_new(targets={"resource": "group"})
    tasks = offered(world, run, CENTRAL)
    members = {
        str(task.target["id"]): [member["id"] for member in task.target["members"]]  # type: ignore[call-overload,index]
        for task in tasks
    }
    assert members == {"all": ["pump-1", "pump-2", "pump-3"], "lab": ["pump-1", "pump-3"]}
    finish(world, run, CENTRAL, tasks)


@pytest.mark.row("A3")
def test_a_query_names_groups_of_both_kinds(world: World):
    world.join("berlin", ["pump-1", "pump-2", "pump-3", "pump-4"])
    make_group(world, "lab", members=["pump-1"])
    make_group(world, "old", query={"id": {"$in": ["pump-1", "pump-2"]}})
    make_group(world, "outer", query="group:old OR id:pump-3")
    run = world.start_new(
        targets={"query": {"group": "outer", "$not": {"group": "lab"}}},
        iteration={"concurrency": 10},
    )
    # What the group means changes only for later runs.
    edit = EditGroup(query="id:pump-4")
    world.run_now(groups.edit_group, world.caller, "outer", edit, world.now)
    assert [task.device for task in offered(world, run, "berlin")] == ["pump-2", "pump-3"]


def test_a_user_is_read_when_the_attempt_is_offered(world: World):
    world.join(CENTRAL)
    make_user(world, "ada", email="ada@example.com", tags={"team": "north"})
    make_user(world, "bob", tags={"team": "south"})
    make_group(world, "north", resource="user", query="tags.team:north")
    run = world.start_new(targets={"resource": "user", "query": "group:north"})
    edit = EditUser(tags={"shift": "night"})
    world.run_now(users.edit_user, world.caller, "ada", edit, world.now)
    (task,) = offered(world, run, CENTRAL)
    assert (task.target["id"], task.target["email"]) == ("ada", "ada@example.com")
    assert task.target["tags"] == {"team": "north", "shift": "night"}
    finish(world, run, CENTRAL, [task])


@pytest.mark.row("A8")
def test_rows_of_a_table_named_by_the_context(world: World):
    world.join(CENTRAL)
    rows: list[dict[str, Any]] = [
        {"site": "berlin", "size": 3},
        {"site": "paris", "size": 9},
        {"site": "berlin"},
    ]
    make_table(world, "sites", rows, site="text", size="number")
    job = world.save(
        targets={"resource": "row", "table": "{{ ctx.table }}", "query": {"size": {"$gt": 2}}}
    )
    with pytest.raises(Invalid, match="no data table `nowhere`"):
        world.start(job, context={"table": "nowhere"})
    with pytest.raises(Invalid, match=r"targets\.table|is not in scope|missing|ctx"):
        world.start(job)
    assert world.sql("SELECT count(*) FROM runs") == [(0,)]
    run = world.start(job, context={"table": "sites"})
    tasks = offered(world, run, CENTRAL)
    assert [task.target for task in tasks] == [
        {"site": "berlin", "size": 3, "id": 1, "table": "sites"},
        {"site": "paris", "size": 9, "id": 2, "table": "sites"},
    ]
    finish(world, run, CENTRAL, tasks)


def test_many_rows_become_tasks_in_chunks(world: World):
    world.join(CENTRAL)
    make_table(world, "many", [{"n": n} for n in range(25)])
    job = world.save(targets={"resource": "row", "table": "many", "query": {"n": {"$gte": 5}}})
    run = world.start(job, create=False)
    from cloud.coordinator import runs

    chunks = 1
    while world.run_now(runs.create_tasks, run, world.now, 10):
        chunks += 1
    assert (chunks, world.run(run).counts.total) == (3, 20)
    world.check()


@pytest.mark.row("A3")
@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({"query": {"tag.site": "x"}}, "did you mean `tags`"),
        ({"query": "tag.site:x"}, "did you mean `tags`"),
        ({"query": "type:"}, "at character 6"),
        ({"resource": "user", "query": {"state.version": 1}}, "a user has no field `state`"),
        ({"resource": "gateway", "query": {"group": "x"}}, "a gateway is a member of no group"),
        ({"query": {"type": "{{ target.type }}"}}, "known at the start"),
        ({"table": "x"}, "only targets of resource `row`"),
    ],
)
def test_a_query_that_cannot_work_is_refused_when_saved(
    world: World, targets: dict[str, Any], message: str
):
    with pytest.raises(Invalid) as refused:
        world.save(targets=targets)
    assert any(message in item.message for item in refused.value.items), refused.value.items


@pytest.mark.row("A3")
def test_groups_that_are_missing_or_define_each_other_start_nothing(world: World):
    job = world.save(targets={"query": {"group": "nobody"}})
    with pytest.raises(Invalid, match="there is no group `nobody`"):
        world.start(job)
    make_group(world, "a", query="type:pump")
    make_group(world, "b", query="group:a")
    with pytest.raises(Invalid, match="defined by each other: a -> b -> a"):
        world.run_now(groups.edit_group, world.caller, "a", EditGroup(query="group:b"), world.now)
    make_user(world, "ada")
    make_group(world, "people", resource="user", members=["ada"])
    job = world.save(name="other", targets={"query": {"group": "people"}})
    with pytest.raises(Invalid, match="a group of users, not of devices"):
        world.start(job)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"members": ["nobody"]}, "there is no device nobody"),
        ({"query": "type:{{ ctx.type }}"}, "no templates"),
        ({"query": {"typ": "x"}}, "did you mean `type`"),
        ({"query": "type:x", "members": ["pump-1"]}, "not both"),
    ],
)
def test_a_group_that_cannot_be_is_refused(world: World, group: dict[str, Any], message: str):
    world.join("berlin", ["pump-1"])
    with pytest.raises(CloudError, match=message):
        make_group(world, "odd", **group)


def test_members_are_added_and_taken_out(world: World):
    world.join("berlin", ["pump-1", "pump-2"])
    make_group(world, "lab", members=["pump-1"])
    with pytest.raises(Conflict):
        make_group(world, "lab")
    change = ChangeMembers(add=["pump-2"], remove=["pump-1"])
    found = world.run_now(groups.change_members, world.caller, "lab", change, world.now)
    assert found.members == 1
    run = world.start_new(targets={"query": {"group": "lab"}})
    assert [task.device for task in offered(world, run, "berlin")] == ["pump-2"]


def test_edits_of_a_device_outlive_the_next_hello(world: World):
    device = InventoryDevice(id="pump-1", tags={"site": "spree", "line": 1})
    world.join("berlin", [device])
    edit = EditDevice(tags={"site": "seine", "line": None}, attributes={"owner": "ada"})
    world.run_now(devices.edit_device, world.caller, "pump-1", edit)
    world.hello("berlin", [device.model_copy(update={"name": "Pump"})])
    found = world.database.read_now(device_views.get_device, DEFAULT_ORG, "pump-1")
    assert (found.name, found.tags, found.attributes) == (
        "Pump", {"site": "seine"}, {"owner": "ada"},
    )  # fmt: skip


@pytest.mark.row("A3")
def test_a_preview_counts_samples_and_says_who_would_wait(world: World):
    world.join("berlin", [f"pump-{n:02}" for n in range(30)])
    world.join("paris", ["pump-p"])
    world.sql("SELECT 1")
    old = world.start_new(name="hold", targets={"query": "id:pump-03"})
    world.dispatch()
    world.now += 60_000
    world.hear("berlin")
    job = world.save(targets={"query": "id~pump-%"})
    found = world.database.read_now(
        previews.preview_job, DEFAULT_ORG, job, PreviewAsked(), world.now
    )
    assert (found.count, len(found.sample), found.warnings) == (31, 20, [])
    assert found.sample[0]["id"] == "pump-00"
    assert [(one.reason, one.count, one.sample) for one in found.excluded] == [
        ("gateway_offline", 1, ["pump-p"]),
        ("device_held", 1, ["pump-03"]),
    ]
    none = world.database.read_now(
        previews.preview_job, DEFAULT_ORG, job, PreviewAsked(query="id:nobody"), world.now
    )
    assert (none.count, none.sample, len(none.warnings)) == (0, [], 1)
    new_verb = world.save(name="new", steps=[{"uses": "firmware.confirm"}])
    too_old = world.database.read_now(
        previews.preview_job, DEFAULT_ORG, new_verb, PreviewAsked(), world.now
    )
    assert [(one.reason, one.count) for one in too_old.excluded] == [
        ("gateway_offline", 1), ("gateway_too_old", 30),
    ]  # fmt: skip
    assert world.run(old).counts.in_flight == 1
    assert world.sql("SELECT count(*) FROM runs") == [(1,)]


@pytest.mark.row("A4")
def test_a_context_is_held_to_its_schema(world: World):
    schema = {"type": "object", "required": ["site"], "properties": {"size": {"type": "number"}}}
    job = world.save(context={"site": "berlin"}, context_schema=schema)
    world.start(job, context={"site": "paris", "size": 2})
    other = world.save(name="other", context={"site": "berlin"}, context_schema=schema)
    with pytest.raises(Invalid) as refused:
        world.start(other, context={"size": "large"})
    assert refused.value.code == "context_invalid"
    assert {item.key for item in refused.value.items} == {"context", "context.size"}
    with pytest.raises(Invalid, match="not valid") as broken:
        world.save(name="third", context_schema={"type": "nothing"})
    assert broken.value.items[0].key.startswith("context_schema")


@pytest.mark.row("A5")
def test_a_run_may_bring_its_own_query(world: World):
    world.join("berlin", ["pump-1", "pump-2"])
    job = world.save(targets={"query": {"id": "pump-1"}})
    run = world.start(job, query="id:pump-2")
    assert [task.device for task in offered(world, run, "berlin")] == ["pump-2"]
    assert world.run(run).query == {"id": {"$eq": "pump-2"}}


@pytest.mark.row("A3")
@pytest.mark.parametrize("said", ['{"$ne": ""}', "{{ 7*7 }}", "*", "group:pumps"])
def test_what_a_device_said_is_compared_and_never_understood(world: World, said: str):
    """A reply becomes state, and state a value in a later query: it stays the text it is."""
    world.join("berlin", ["pump-1", "pump-2", "pump-3"])
    for number, (device, text) in enumerate({"pump-1": said, "pump-2": "49"}.items(), start=1):
        state = DeviceState(number=number, device=device, at=1, values={"note": text})
        world.report("berlin", states=[state])
    job = world.save(targets={"query": {"state.note": "{{ ctx.note }}"}})
    run = world.start(job, context={"note": said})
    assert [task.device for task in offered(world, run, "berlin")] == ["pump-1"]
    assert world.run(run).query == {"state.note": {"$eq": said}}


def test_what_a_row_or_a_device_holds_is_never_part_of_a_query(world: World):
    """A cell that looks like an operator or a template stays the text it is."""
    world.join("berlin", ["pump-1", "pump-2"])
    world.join(CENTRAL)
    cells = ['{"$ne": ""}', "{{ 7*7 }}"]
    make_table(world, "evil", [{"site": cell} for cell in cells], site="text")
    job = world.save(targets={"query": {"tags.site": "{{ ctx.site }}"}})
    for cell in cells:
        run = world.start(job, context={"site": cell})
        assert world.settle(run).counts.total == 0
    with pytest.raises(Invalid, match="one value is expected"):
        world.start(job, context={"site": {"$ne": ""}})
    rows = world.save(name="rows", targets={"resource": "row", "table": "evil"})
    tasks = offered(world, world.start(rows), CENTRAL)
    assert [task.target["site"] for task in tasks] == cells
