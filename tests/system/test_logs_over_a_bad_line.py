"""Log lines over a way to the cloud that loses what is under way: each arrives, and once."""

import pytest

from tests.kit.rig_jobs import command_job
from tests.kit.rig_site import smp
from tests.kit.waiting import wait_until

LINES = 60
ROUNDS = 2


def steps() -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for number in range(ROUNDS):
        say = {"uses": "flow.log", "with": {"text": "said {{ item }}"}}
        items = [f"{number}.{line}" for line in range(LINES)]
        with_ = {"items": items, "step": say}
        found.append({"id": f"talk_{number}", "uses": "flow.for_each", "with": with_})
        found.append({"id": f"rest_{number}", "uses": "flow.delay", "with": {"for": "1s"}})
    return found


@pytest.mark.row("E1", "C11")
def test_every_line_of_a_task_arrives_once(rig):
    site = rig.add_gateway("north", [smp("pump-1")], uplink=True)
    run = rig.start(command_job(steps=steps()))
    for number in range(ROUNDS):
        # Its lines have just left, or are about to: messages and receipts are lost in mid-air.
        come = {f"{kind}_{later}" for kind in ("talk", "rest") for later in range(number, ROUNDS)}
        come.discard(f"talk_{number}")
        rig.wait_for_task(run, "pump-1", lambda t, c=come: t.current_step in c or t.ended_at)
        site.uplink.cut()
        site.uplink.restore()
    rig.finish(run, "succeeded")
    expected = sorted(f"said {number}.{line}" for number in range(ROUNDS) for line in range(LINES))

    def said() -> list[str]:
        return sorted(t for line in rig.client.runs.log(run) if (t := line.text).startswith("said"))

    wait_until(lambda: len(said()) >= len(expected), 30, lambda: f"{len(said())} lines")
    assert said() == expected
