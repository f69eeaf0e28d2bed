"""How tasks take their turns: delays, limits, ten thousand at once, and devices that come later."""

import json
from datetime import timedelta
from itertools import pairwise

import pytest

from contract.lifecycle import RunStatus, TaskStatus
from tests.kit.rig_bare_gateway import BareGateway, snapshot
from tests.kit.rig_jobs import ask, command_job, delay
from tests.kit.rig_site import mqtt, smp
from tests.kit.waiting import wait_until

TOGETHER = 10_000
BATCH = 50


def report_all(gateway, tasks, revision, status):
    """Report these tasks, a receipt for each message before the next but one."""
    told = []
    for start in range(0, len(tasks), BATCH):
        batch = [snapshot(task, revision, status) for task in tasks[start : start + BATCH]]
        told.append(gateway.report(*batch))
    for message in told:
        assert {item.outcome for item in gateway.wait_for_receipt(message)} == {"stored"}


@pytest.mark.row("B1")
def test_ten_thousand_tasks_run_at_once(rig):
    rig.client.gateways.create("bare")
    devices = [f"device-{number}" for number in range(TOGETHER)]
    with BareGateway("bare", rig.broker_port, devices) as gateway:

        def known():
            return rig.client.gateways.get("bare").devices == TOGETHER

        wait_until(known, 60, "all devices")
        run = rig.start(command_job(concurrency=TOGETHER, timeout="10m"))
        offers = gateway.wait_for_offers(TOGETHER)
        report_all(gateway, offers, 1, TaskStatus.RUNNING)
        assert rig.client.runs.get(run).counts.in_flight == TOGETHER
        report_all(gateway, offers, 2, TaskStatus.SUCCEEDED)

        def ended():
            return rig.client.runs.get(run).status is RunStatus.SUCCEEDED

        wait_until(ended, 60, lambda: rig.describe(run))
        assert rig.client.runs.get(run).counts.succeeded == TOGETHER


@pytest.mark.row("B1")
@pytest.mark.row("B3")
@pytest.mark.row("B14")
def test_a_slot_rests_and_a_gateway_takes_no_more_than_it_may(rig):
    for site in ("north", "south"):
        rig.add_gateway(site, [smp(f"{site}-{n}") for n in (1, 2, 3)])
    steps = [delay("300ms")]

    def spans(run, *devices):
        attempts = [rig.attempts(run, device)[0] for device in devices]
        return sorted((each.started_at, each.ended_at) for each in attempts)

    limited = rig.start(command_job(job="limited", steps=steps, concurrency=6, per_gateway=1))
    rig.finish(limited)
    for site in ("north", "south"):
        for before, after in pairwise(spans(limited, *(f"{site}-{n}" for n in (1, 2, 3)))):
            assert before[1] <= after[0], f"two of {site} ran at once"

    query = {"id": {"$like": "north-%"}}
    rested = rig.start(
        command_job(job="rested", steps=steps, query=query, concurrency=1, delay="1s")
    )
    rig.finish(rested)
    for before, after in pairwise(spans(rested, "north-1", "north-2", "north-3")):
        assert after[0] - before[1] >= timedelta(seconds=1), "the slot did not rest"


@pytest.mark.row("B14")
def test_a_dead_gateway_wedges_no_serial_run(rig):
    rig.add_gateway("dead", [smp("a-first")]).kill_9()
    rig.add_gateway("alive", [smp("b-second")])
    run = rig.start(command_job(mode="serial", offline="fail", offline_after="1s"))
    # Silence counts from 30 s on; the second has its turn all the same.
    assert rig.finish(run, "partially_succeeded", 120).counts.succeeded == 1
    assert rig.task(run, "a-first").failure.code == "gateway_offline"
    assert rig.task(run, "b-second").status is TaskStatus.SUCCEEDED


@pytest.mark.row("A14")
def test_a_device_that_comes_later_joins_a_continuous_run(rig):
    rig.add_gateway("north", [mqtt("meter-1")])
    job = command_job(steps=[ask("version")])
    job["targets"]["continuous"] = True
    run = rig.start(job)
    rig.wait_for_counts(run, lambda counts: counts.succeeded == 1)
    assert rig.client.runs.get(run).status is RunStatus.RUNNING
    rig.add_gateway("south", [mqtt("meter-2")])
    rig.wait_for_counts(run, lambda counts: counts.succeeded == 2)
    rig.client.runs.cancel(run)
    rig.finish(run, "cancelled")


@pytest.mark.row("A4")
@pytest.mark.row("A5")
def test_a_run_brings_its_own_context_and_query(rig):
    rig.add_gateway("north", [mqtt("meter-1"), mqtt("meter-2")])
    job = command_job(steps=[{"uses": "flow.set", "with": {"values": {"seen": "{{ ctx.word }}"}}}])
    job["context"] = {"word": "default"}
    job["context_schema"] = {"required": ["word"], "properties": {"word": {"type": "string"}}}
    saved = rig.client.jobs.create(json.dumps(job))

    plain = rig.client.jobs.run(saved.id).id
    assert rig.finish(plain).counts.total == 2
    assert rig.attempts(plain, "meter-1")[0].result == {"seen": "default"}

    words = ("jobs", "run", saved.id, "--context", "word=mine", "--query", "id:meter-2")
    run = json.loads(rig.cli(*words, "-o", "json").output())["id"]
    assert rig.finish(run).counts.total == 1
    assert rig.attempts(run, "meter-2")[0].result == {"seen": "mine"}

    refused = rig.cli("jobs", "run", saved.id, "--context", "word=5")
    assert refused.returncode != 0
    assert "word" in refused.tail()
