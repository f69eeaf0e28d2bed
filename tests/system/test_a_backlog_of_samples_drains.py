"""A large backlog of samples goes to the cloud while jobs report; neither waits for the other."""

import pytest

from tests.kit import drain

COUNT = 20_000


@pytest.mark.row("E2")
def test_twenty_thousand_samples_come_in_once_while_tasks_report(rig):
    _, busy, _ = drain.drain(rig, COUNT)
    assert busy  # each of these tasks ended, and was told of, while samples came in
    assert drain.stored(rig) >= COUNT
    samples = rig.client.devices.state(drain.DEVICE, keys=["bar"], limit=1000)
    seen = [one.values["bar"] for one in samples]
    assert seen == list(range(COUNT))
    assert rig.client.devices.get(drain.DEVICE).state["bar"] == COUNT - 1
