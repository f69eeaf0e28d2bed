"""A secret is sealed in the database and stands only in the offer to who needs it."""

import pytest

from cloud.coordinator import dispatch, secrets
from cloud.coordinator.secrets import Vault, new_key
from cloud.errors import Invalid
from tests.integration.storage.world import World

SECRET = "hunter2-and-more"
pytestmark = pytest.mark.row("A13")


def test_only_the_offer_of_a_job_that_names_it_holds_a_secret(world: World):
    vault = Vault(new_key(b"k" * 32))
    world.join("berlin", ["pump-1", "pump-2"])
    world.run_now(secrets.set_secret, world.caller, vault, "api_key", SECRET, world.now)
    world.run_now(secrets.set_secret, world.caller, vault, "other", "unused", world.now)
    step = {"uses": "flow.log", "with": {"text": "{{ secrets.api_key }}"}}
    with_secret = world.start_new(name="with", steps=[step], targets={"query": "id:pump-1"})
    without = world.start_new(name="without", targets={"query": "id:pump-2"})
    world.dispatch()
    (offering,) = world.database.read_now(dispatch.offers_to_send, world.now, secrets=vault.of_runs)
    found = {body.run: body.secrets for body in offering.bodies.values()}
    assert found == {with_secret: {"api_key": SECRET}, without: {}}
    tables = ("secrets", "runs", "tasks", "attempts", "run_log")
    rows = [str(world.sql(f"SELECT * FROM {table}")) for table in tables]
    assert not [row for row in rows if SECRET in row]
    changed = Vault(new_key(b"x" * 32))
    assert changed.open(world.sql("SELECT sealed FROM secrets")[0][0]) is None


def test_an_unknown_secret_starts_nothing(world: World):
    job = world.save(steps=[{"uses": "flow.log", "with": {"text": "{{ secrets.nobody }}"}}])
    with pytest.raises(Invalid, match="no secret `nobody`") as refused:
        world.start(job)
    assert refused.value.code == "unknown_secret"
    job = world.save(name="all", steps=[{"uses": "flow.log", "with": {"text": "{{ secrets }}"}}])
    with pytest.raises(Invalid, match=r"write secrets\.NAME"):
        world.start(job)
    assert world.sql("SELECT count(*) FROM runs") == [(0,)]
