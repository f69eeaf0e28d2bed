"""Profiles deployed to gateways: wishes, what is sent, answers that come twice or late; on both."""

from pathlib import Path

import pytest

from cloud.coordinator import gateways, profiles, runs
from cloud.coordinator.tasks import Received
from cloud.errors import Invalid, NotFound
from cloud.storage import profiles as stored
from cloud.storage.profiles import Sending
from cloud.storage.views import gateways as gateway_views
from cloud.storage.views import profiles as views
from contract.http.fleet import GatewayProfile
from contract.http.operations import DeployProfile, WithdrawProfile
from contract.http.runs import CancelRun
from contract.ids import DEFAULT_ORG
from contract.lifecycle import RunStatus
from contract.messages import (
    MAX_PROFILES,
    HeldProfile,
    HeldProfiles,
    Hello,
    Report,
    WantedProfiles,
)
from tests.integration.storage.test_operations import Office
from tests.integration.storage.world import World

pytestmark = pytest.mark.row("A11")

ONE, TWO = "1" * 64, "2" * 64


@pytest.fixture
def office(world: World, tmp_path: Path) -> Office:
    for gateway in ("berlin", "oslo", "rome"):
        world.create_gateway(gateway)
    return Office(world, tmp_path)


def deploy(office: Office, sha256: str = ONE, *only: str, name: str = "pump") -> str:
    world = office.world
    run = f"operation-{next(world.numbers)}"
    which = {"gateways": list(only)} if only else {"all": True}
    asked = DeployProfile.model_validate({"name": name, "artifact": "file", **which})
    world.run_now(profiles.start, world.caller, asked, (sha256, 100), run, world.now)
    rounds(office)
    return run


def withdraw(office: Office, *only: str) -> str:
    world = office.world
    run = f"operation-{next(world.numbers)}"
    asked = WithdrawProfile(name="pump", gateways=list(only))
    world.run_now(profiles.start, world.caller, asked, None, run, world.now)
    rounds(office)
    return run


def rounds(office: Office) -> None:
    for _ in range(3):
        office.step()


def hello(world: World, gateway: str, held: list[HeldProfile] | None) -> WantedProfiles | None:
    said = Hello(
        nonce="n", page=1, pages=1, journal=gateway, instance=f"{gateway}-1", profiles=held
    )
    session = f"session-{next(world.numbers)}"
    welcomes = world.run_now(
        gateways.accept_hello, world.address(gateway), said, session, world.now
    )
    return welcomes[0].profiles


def send(world: World) -> dict[str, WantedProfiles]:
    due = world.database.read_now(stored.due, world.now)
    found: list[Sending] = world.run_now(stored.to_send, due, world.now - 30_000, world.now)
    return {one.address.gateway: one.wanted for one in found}


def answer(world: World, gateway: str, revision: int, *held: HeldProfile) -> None:
    said = HeldProfiles(revision=revision, profiles=list(held))
    world.report_all([Received(world.address(gateway), Report(profiles=said))])


def has(sha256: str, name: str = "pump") -> HeldProfile:
    return HeldProfile(name=name, sha256=sha256, size=100)


def shown(world: World, gateway: str) -> list[GatewayProfile]:
    return world.database.read_now(
        gateway_views.get_gateway, DEFAULT_ORG, gateway, world.now
    ).profiles


def test_a_run_ends_when_each_gateway_has_agreed_or_refused(office: Office):
    world = office.world
    for gateway in ("berlin", "oslo", "rome"):
        assert hello(world, gateway, []) is None
    run = deploy(office)
    assert world.run(run).results["waiting_for"] == ["berlin", "oslo", "rome"]
    told = send(world)
    assert {one.profiles[0].sha256 for one in told.values()} == {ONE}
    assert send(world) == {}  # until they have had time to answer
    answer(world, "berlin", told["berlin"].revision, has(ONE))
    answer(world, "berlin", told["berlin"].revision, has(ONE))
    no = HeldProfile(name="pump", refused=ONE, problem="commands.x: unknown key")
    answer(world, "oslo", told["oslo"].revision, no)
    rounds(office)
    assert world.run(run).progress == pytest.approx(200 / 3)
    world.now += 10_000
    assert set(send(world)) == {"rome"}
    answer(world, "rome", told["rome"].revision, has(ONE))
    ended = office.finish(run)
    assert ended.status is RunStatus.PARTIALLY_SUCCEEDED
    assert ended.results == {
        "gateways": 3, "deployed": 2, "errors": 1,
        "first_errors": [{"gateway": "oslo", "reason": "commands.x: unknown key"}],
    }  # fmt: skip
    (refused,) = shown(world, "oslo")
    assert (refused.state, refused.sha256, refused.problem) == ("refused", None, no.problem)
    world.now += 60_000
    assert send(world) == {}
    page = world.database.read_now(views.list_profiles, DEFAULT_ORG, name="pump", limit=2)
    assert [one.gateway for one in page.items] == ["berlin", "oslo"]
    rest = world.database.read_now(
        views.list_profiles, DEFAULT_ORG, name="pump", limit=2, cursor=page.next_cursor
    )
    assert [one.gateway for one in rest.items] == ["rome"]


def test_one_that_is_away_is_told_by_its_welcome(office: Office):
    world = office.world
    run = deploy(office, ONE, "berlin")
    assert send(world) == {}
    wanted = hello(world, "berlin", [])
    assert wanted is not None
    assert [one.sha256 for one in wanted.profiles] == [ONE]
    assert world.run(run).status is RunStatus.RUNNING
    answer(world, "berlin", wanted.revision, has(ONE))
    assert office.finish(run).results == {"gateways": 1, "deployed": 1}
    # Again the same: there is nothing to do, and nothing is sent.
    assert office.finish(deploy(office, ONE, "berlin")).results == {"gateways": 1, "deployed": 1}
    assert send(world) == {}


def test_answers_about_an_older_set_mean_nothing(office: Office):
    world = office.world
    hello(world, "berlin", [])
    deploy(office, ONE, "berlin")
    first = send(world)["berlin"]
    second_run = deploy(office, TWO, "berlin")
    second = send(world)["berlin"]
    third_run = deploy(office, ONE, "berlin")
    answer(world, "berlin", first.revision, has(ONE))
    answer(world, "berlin", second.revision, HeldProfile(name="pump", refused=ONE, problem="no"))
    assert shown(world, "berlin")[0].state == "pending"
    third = send(world)["berlin"]
    assert third.revision > second.revision > first.revision
    answer(world, "berlin", third.revision, has(ONE))
    assert office.finish(third_run).status is RunStatus.SUCCEEDED
    # The ones before were overtaken, and say so.
    assert office.finish(second_run).results["overtaken"] == 1


def test_a_refused_profile_leaves_the_one_before(office: Office):
    world = office.world
    hello(world, "berlin", [])
    run = deploy(office, ONE, "berlin")
    answer(world, "berlin", send(world)["berlin"].revision, has(ONE))
    office.finish(run)
    run = deploy(office, TWO, "berlin")
    no = HeldProfile(name="pump", sha256=ONE, size=100, refused=TWO, problem="disk full")
    told = send(world)["berlin"]
    answer(world, "berlin", told.revision, no)
    answer(world, "berlin", told.revision, no)
    assert office.finish(run).status is RunStatus.FAILED
    (found,) = shown(world, "berlin")
    assert (found.state, found.sha256, found.problem) == ("refused", ONE, "disk full")
    wanted = hello(world, "berlin", [has(ONE)])
    assert wanted is not None
    assert [one.sha256 for one in wanted.profiles] == [ONE]
    answer(world, "berlin", wanted.revision, has(ONE))
    assert (shown(world, "berlin")[0].state, shown(world, "berlin")[0].problem) == ("held", "")


@pytest.mark.parametrize("how", ["cancelled", "expired"])
def test_ended_early_it_takes_back_what_nobody_has_answered(office: Office, how: str):
    world = office.world
    for gateway in ("berlin", "oslo"):
        hello(world, gateway, [])
    run = deploy(office, ONE, "berlin", "oslo")
    told = send(world)
    answer(world, "berlin", told["berlin"].revision, has(ONE))
    if how == "cancelled":
        world.run_now(runs.cancel_run, world.caller, run, CancelRun(), world.now)
    else:
        world.now += 31 * 86_400_000
        hello(world, "oslo", [])
    ended = office.finish(run)
    status = RunStatus.CANCELLED if how == "cancelled" else RunStatus.FAILED
    assert ended.status is status
    assert ended.results == {"gateways": 2, "deployed": 1, "taken_back": 1}
    back = send(world)["oslo"]
    assert back.profiles == []
    # It had taken it, and only its word of that was too late.
    answer(world, "oslo", told["oslo"].revision, has(ONE))
    world.now += 10_000
    if how == "expired":
        hello(world, "oslo", [has(ONE)])
    assert shown(world, "oslo") == []
    answer(world, "oslo", back.revision)
    world.now += 10_000
    assert send(world) == {}


def test_a_withdrawal_may_be_refused_and_then_agreed(office: Office):
    world = office.world
    hello(world, "berlin", [])
    run = deploy(office, ONE, "berlin")
    answer(world, "berlin", send(world)["berlin"].revision, has(ONE))
    office.finish(run)
    run = withdraw(office, "berlin", "oslo")
    told = send(world)["berlin"]
    assert told.profiles == []
    why = "used by meter-1, and there is no other profile `pump`"
    answer(world, "berlin", told.revision, has(ONE).model_copy(update={"problem": why}))
    ended = office.finish(run)
    # Oslo never had one.
    assert (ended.results["withdrawn"], ended.results["errors"]) == (1, 1)
    (found,) = shown(world, "berlin")
    assert (found.state, found.sha256, found.problem) == ("refused", ONE, why)
    run = withdraw(office, "berlin")
    answer(world, "berlin", send(world)["berlin"].revision)
    assert office.finish(run).results == {"gateways": 1, "withdrawn": 1}
    assert shown(world, "berlin") == []
    said = world.sql("SELECT action FROM audit")
    assert ("profiles.withdraw",) in said


def test_a_gateway_that_is_too_old_refuses_at_once(office: Office):
    world = office.world
    assert hello(world, "berlin", None) is None
    run = deploy(office, ONE, "berlin", "oslo")
    assert world.run(run).results["errors"] == 1
    assert hello(world, "oslo", None) is None
    ended = office.finish(run)
    assert ended.status is RunStatus.FAILED
    assert {one["reason"] for one in ended.results["first_errors"]} == {stored.TOO_OLD}  # type: ignore[call-overload,index]


def test_what_was_deployed_before_a_restore_is_kept(office: Office):
    world = office.world
    wanted = hello(world, "berlin", [has(ONE)])
    assert wanted is not None
    assert [one.sha256 for one in wanted.profiles] == [ONE]
    assert shown(world, "berlin")[0].state == "held"


def test_a_gateway_holds_so_many_and_no_more(office: Office):
    world = office.world
    hello(world, "berlin", [])
    held = [has(ONE, f"profile-{number}") for number in range(MAX_PROFILES)]
    hello(world, "berlin", held)
    run = office.finish(deploy(office, TWO, "berlin"))
    assert run.results["first_errors"] == [{"gateway": "berlin", "reason": stored.TOO_MANY}]
    run_again = deploy(office, TWO, "berlin", name="profile-1")
    assert world.run(run_again).status is RunStatus.RUNNING


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"name: pump\ncommands: {}\n", ""),
        (b"commands: [", "not YAML"),
        (b"- pump", "an object"),
        (b"name: \xff", "not UTF-8"),
        (b"name: valve", "calls itself `valve`"),
    ],
)
def test_the_door_refuses_what_can_be_no_profile(data: bytes, said: str):
    if not said:
        profiles.check_file("pump", data)
        return
    with pytest.raises(Invalid, match=said):
        profiles.check_file("pump", data)


def test_only_a_named_artifact_of_that_size_is_deployed(office: Office):
    world = office.world
    with pytest.raises(NotFound):
        world.database.read_now(profiles.find_file, DEFAULT_ORG, "pump.yaml")
    world.artifact("pump.yaml", ONE)
    assert world.database.read_now(profiles.find_file, DEFAULT_ORG, ONE) == (ONE, 1000)
    world.run_now(lambda session: session.connection().exec_driver_sql(
        "UPDATE artifacts SET size = 300000"
    ))  # fmt: skip
    with pytest.raises(Invalid, match="at most"):
        world.database.read_now(profiles.find_file, DEFAULT_ORG, "pump.yaml")
