"""The list of gateways in the console: what is wrong with one stands beside its name."""

import pytest

from cloud.console.pages import Frame, GatewaysPage, render_live
from contract.http.fleet import Gateway

FULL = "The disk is full: /var/lib/gw takes nothing more."


def shown(**health: object) -> str:
    gateway = Gateway.model_validate({"id": "north", "health": health})
    return render_live(GatewaysPage(frame=Frame(), gateways=(gateway,)))


@pytest.mark.row("E1")
def test_a_disk_and_a_clock_are_shown_when_they_are_wrong():
    assert FULL in shown(storage=FULL)
    assert "its clock is 7200 s behind" in shown(clock_off_ms=-7_200_000)
    assert "its clock is 6 s ahead" in shown(clock_off_ms=6_000)
    assert "doubts the cloud's clock, 3 days" in shown(cloud_clock_ahead_ms=3 * 86_400_000)


@pytest.mark.parametrize(
    "health",
    [
        {},
        {"storage": None, "clock_off_ms": 4_000},
        {"clock_off_ms": "soon", "cloud_clock_ahead_ms": 0},
    ],
)
def test_nothing_is_said_of_what_is_fine_or_unknown(health):
    page = shown(**health)
    assert "disk" not in page
    assert "clock" not in page
