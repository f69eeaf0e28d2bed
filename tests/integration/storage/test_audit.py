"""What people do is noted with what they did, or not at all; both databases."""

import pytest

from cloud.coordinator import deletions, holds, secrets
from cloud.coordinator.secrets import Vault, new_key
from cloud.errors import NotFound
from cloud.storage.views import audit as views
from contract.http.audit import AuditLine
from contract.http.holds import SetHold
from contract.ids import DEFAULT_ORG
from tests.integration.storage.world import World

VALUE = "hunter2-and-more"


def lines(world: World, subject: str | None = None) -> list[AuditLine]:
    page = world.database.read_now(views.list_audit, DEFAULT_ORG, subject=subject)
    return page.items


def said(world: World) -> list[tuple[str, str]]:
    return [(line.action, line.subject) for line in reversed(lines(world))]


@pytest.mark.row("A13")
def test_secrets_leave_a_trail_without_their_values(world: World):
    vault = Vault(new_key(b"k" * 32))
    for _ in range(2):
        world.run_now(secrets.set_secret, world.caller, vault, "api_key", VALUE, world.now)
    world.run_now(secrets.delete_secret, world.caller, "api_key", world.now)
    with pytest.raises(NotFound):
        world.run_now(secrets.delete_secret, world.caller, "api_key", world.now)
    deleted, changed, made = lines(world)
    assert (made.action, made.subject, made.detail) == (
        "secret.set",
        "secret/api_key",
        {"new": True},
    )
    assert (changed.action, changed.detail) == ("secret.set", {})
    assert deleted.action == "secret.delete"
    assert (made.by.id, made.by.name) == (world.caller.id, world.caller.name)
    assert not [row for row in world.sql("SELECT * FROM audit") if VALUE in str(row)]


@pytest.mark.row("C16")
def test_holds_leave_a_trail(world: World):
    wanted = SetHold(reason="crane at work")
    world.run_now(holds.set_hold, world.caller, "site", "berlin", wanted, world.now)
    world.run_now(holds.set_hold, world.caller, "org", "all", SetHold(), world.now)
    world.run_now(holds.lift_hold, world.caller, "site", "berlin", world.now)
    assert said(world) == [
        ("hold.set", "hold/site/berlin"),
        ("hold.set", "hold/org/all"),
        ("hold.lift", "hold/site/berlin"),
    ]
    first = lines(world, subject="hold/site/berlin")[-1]
    assert first.detail == {"reason": "crane at work"}


@pytest.mark.row("B11")
@pytest.mark.row("C5")
def test_retries_forced_cancels_and_deletions_leave_a_trail(world: World):
    world.join("berlin", ["pump-1"])
    job = world.save(retry={"attempts": 1})
    run = world.start(job)
    world.play(run, "failed")
    world.retry(run, reason="the valve was shut")
    world.cancel(run, force=True)
    world.run_now(deletions.delete_job, world.caller, job, world.now)
    assert said(world) == [
        ("run.retry", f"run/{run}"),
        ("run.force_cancel", f"run/{run}"),
        ("job.delete", f"job/{job}"),
    ]
    assert lines(world, subject=f"run/{run}")[-1].detail["reason"] == "the valve was shut"


def test_pages_of_the_trail_follow_each_other(world: World):
    for number in range(5):
        world.run_now(holds.set_hold, world.caller, "device", f"d-{number}", SetHold(), world.now)
    found, cursor = [], None
    while True:
        page = world.database.read_now(views.list_audit, DEFAULT_ORG, cursor=cursor, limit=2)
        found += [line.subject for line in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == [f"hold/device/d-{number}" for number in (4, 3, 2, 1, 0)]
