"""Counts and start of the run reach the steps that read them, and nobody else."""

import pytest

from tests.integration.storage.world import World

LOOK = {"uses": "flow.set", "with": {"values": {"n": "{{ run.counts.total }}"}}}
SINCE = {"uses": "flow.set", "with": {"values": {"at": "{{ run.started_at }}"}}}
PLAIN = {"uses": "flow.set", "with": {"values": {"id": "{{ run.id }}"}}}


def offered(world: World, *steps):
    world.join("berlin", ["pump-1", "pump-2"])
    world.hello("berlin", ["pump-1", "pump-2"], verbs=["flow.set"])
    world.start_new(steps=list(steps), iteration={"concurrency": 1})
    world.dispatch()
    (task,) = world.send()["berlin"]
    return task


@pytest.mark.row("A12")
def test_a_run_whose_steps_read_its_counts_is_told_them(world: World):
    facts = offered(world, LOOK, SINCE).run_facts
    assert facts["started_at"] == world.now
    assert (facts["counts"]["total"], facts["counts"]["in_flight"]) == (2, 1)
    assert facts["counts"]["pending"] == 1


@pytest.mark.row("A12")
def test_a_run_whose_steps_do_not_ask_costs_nothing(world: World):
    assert offered(world, PLAIN).run_facts == {}
