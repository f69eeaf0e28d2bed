"""Reports are state: a copy, an older one, one out of order, they change nothing."""

import json

import pytest

from contract.lifecycle import TaskStatus
from tests.kit.mqtt_client import MqttClient
from tests.kit.rig_bare_gateway import BareGateway, snapshot
from tests.kit.rig_jobs import ask, command_job, delay
from tests.kit.rig_site import mqtt, smp
from tests.kit.waiting import wait_until

R, S, F = TaskStatus.RUNNING, TaskStatus.SUCCEEDED, TaskStatus.FAILED


@pytest.mark.row("E1")
def test_what_a_gateway_said_is_said_again_in_any_order(rig):
    rig.add_gateway("north", [smp("pump-1"), mqtt("meter-1")])
    steps = [ask("version"), delay("1500ms"), ask("version")]
    query = {"id": {"$in": ["meter-1"]}}
    with MqttClient("echo", rig.broker_port) as echo:
        echo.subscribe("roundsman/v1/+/+/+/up/report", "roundsman/v1/+/+/+/down/receipt")
        run = rig.start(command_job(steps=steps, query=query))
        rig.wait_for_step(run, "meter-1", "delay")

        repeat(echo)  # while it runs
        rig.finish(run)
        before = rig.task(run, "meter-1")
        repeat(echo)  # after it has ended

    rig.finish(run)
    after = rig.task(run, "meter-1")
    assert after == before
    assert rig.client.gateways.get("north").refused_items == 0


def repeat(echo: MqttClient) -> None:
    """Say every report twice more, the newest first; each gets its receipt again."""
    reports = [(t, p) for t, p in echo.messages if t.endswith("/report") and b'"tasks"' in p]
    assert reports
    numbers = [json.loads(payload.split(b"\n")[0]).get("message", 0) for _, payload in reports]

    def receipts() -> int:
        told = [json.loads(p.split(b"\n")[0]) for t, p in echo.messages if t.endswith("/receipt")]
        return sum(one.get("message", 0) in numbers for one in told)

    wait_until(lambda: receipts() >= len(reports), message="the receipts of the first time")
    before = receipts()
    for topic, payload in [*reversed(reports), *reports]:
        echo.publish(topic, payload)
    expected = before + 2 * len(reports)
    wait_until(lambda: receipts() >= expected, message="a receipt for each copy")


@pytest.mark.row("E1")
def test_an_older_report_never_takes_back_a_newer_one(rig):
    rig.client.gateways.create("bare")
    with BareGateway("bare", rig.broker_port, ["one", "two"]) as gateway:
        run = rig.start(command_job())
        one, two = gateway.wait_for_offers(2)

        # Out of order: the last word first, then what came before it.
        gateway.report(snapshot(one, 9, S), snapshot(two, 5, R, progress=70))
        gateway.report(snapshot(one, 4, R), snapshot(two, 3, R, progress=20))
        last = gateway.report(snapshot(one, 9, F))  # the same revision is the same report
        assert [item.outcome for item in gateway.wait_for_receipt(last)] == ["stored"]
        assert rig.task(run, "one").status is S
        assert rig.task(run, "two").progress == 70

        gateway.wait_for_receipt(gateway.report(snapshot(two, 6, S)))
        rig.finish(run)

        # News of an attempt that has ended is kept beside it, and gets its receipt.
        number = gateway.report(snapshot(one, 12, F, failure={"code": "device_refused"}))
        assert [item.outcome for item in gateway.wait_for_receipt(number)] == ["stored"]
        late = rig.task(run, "one")
        assert late.status is S
        assert late.attempts[0].late_outcome is not None
        rig.finish(run)


@pytest.mark.row("E1")
def test_what_names_another_session_is_not_taken(rig):
    rig.client.gateways.create("bare")
    with BareGateway("bare", rig.broker_port, ["one"]) as gateway:
        old = gateway.session
        gateway.say_hello()
        run = rig.start(command_job())
        (one,) = gateway.wait_for_offers(1)

        gateway.report(snapshot(one, 9, F), session=old)
        gateway.wait_for_receipt(gateway.report(snapshot(one, 2, S)))

        rig.finish(run)
        assert rig.task(run, "one").attempts[0].late_outcome is None
