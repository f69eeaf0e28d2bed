"""The gateway's time: whose clock is believed, and what is deleted by it."""

import pytest

from gateway.clock import Clock
from gateway.domain.facts import Instant

YEAR = 365 * 86_400_000
TRUE = 1_790_000_000_000


class Machine:
    """Clocks that a test sets; `right` is what nobody can read."""

    def __init__(self, wall: int = TRUE) -> None:
        self.wall, self.mono, self.right = wall, 7_000, TRUE

    def __call__(self) -> Instant:
        return Instant(self.wall, self.mono)

    def passes(self, ms: int) -> None:
        self.wall, self.mono, self.right = self.wall + ms, self.mono + ms, self.right + ms


@pytest.mark.row("E1")
@pytest.mark.parametrize("off", [-50 * YEAR, -7_200_000, -6_000, 6_000, 3_600_000, 30 * YEAR])
def test_the_cloud_is_believed_where_the_machine_is_wrong(off):
    machine = Machine(TRUE + off)
    clock = Clock(machine)
    assert clock().wall == TRUE + off
    machine.passes(100)
    clock.learn(machine.right, machine.mono)
    machine.passes(3 * YEAR)
    assert clock() == Instant(machine.right, machine.mono)
    assert clock.off_ms == off


def test_a_small_difference_leaves_the_machine_its_clock():
    machine = Machine(TRUE + 1_500)
    clock = Clock(machine)
    clock.learn(machine.right, machine.mono)
    assert clock().wall == machine.wall
    assert clock.off_ms == 1_500


def test_how_long_the_answer_took_is_no_fault_of_the_clock():
    machine = Machine()
    clock = Clock(machine)
    asked, told = machine.mono, machine.right
    machine.passes(20_000)
    clock.learn(told, asked)
    assert clock.off_ms == 0
    assert clock().wall == machine.wall


@pytest.mark.row("E1")
def test_before_the_cloud_has_told_the_time_it_is_not_before_the_last_one_known():
    machine = Machine(wall=86_400_000)
    clock = Clock(machine, floor=TRUE - 5_000_000)
    machine.passes(60_000)
    assert clock().wall == TRUE - 5_000_000 + 60_000
    assert clock.off_ms < -20 * YEAR
    machine.wall = machine.right  # the network's time has come
    assert clock().wall == machine.right
    assert clock.off_ms == 0


@pytest.mark.row("E1")
def test_nothing_is_surely_over_before_the_cloud_has_spoken_or_because_a_clock_jumped_ahead():
    machine = Machine()
    clock = Clock(machine)
    machine.wall += 20 * YEAR
    assert clock.surely is None
    assert clock.doubted_ms == 0
    clock.learn(machine.right, machine.mono)
    assert clock.surely == machine.right
    machine.passes(1_000)
    clock.learn(machine.right + 20 * YEAR, machine.mono)  # now it is the cloud's that is wrong
    assert clock.surely == machine.right
    clock.learn(machine.right - 3_600_000, machine.mono)
    assert clock.surely == machine.right - 3_600_000


def test_a_cloud_that_tells_no_time_changes_nothing():
    clock = Clock(Machine())
    clock.learn(0, 0)
    assert clock.surely is None


HOUR = 3_600_000
YEARS_AHEAD = [(0, 0), (0, -2 * YEAR), (-50 * YEAR, -2 * YEAR)]


@pytest.mark.row("E1")
@pytest.mark.parametrize(("machine_off", "floor_off"), YEARS_AHEAD)
def test_a_cloud_that_is_years_ahead_at_the_start_buries_nothing(machine_off, floor_off):
    machine = Machine(TRUE + machine_off)
    clock = Clock(machine, TRUE + floor_off)
    clock.learn(machine.right + 20 * YEAR, machine.mono)
    assert clock.surely is None
    assert clock.doubted_ms == 20 * YEAR - max(machine_off, floor_off)
    machine.passes(HOUR // 2)
    clock.learn(machine.right + 20 * YEAR, machine.mono)  # a second session, too soon
    clock.learn(machine.right + 40 * YEAR, machine.mono)  # and one that says something else
    machine.passes(HOUR)
    clock.learn(machine.right + 40 * YEAR, machine.mono)
    assert clock.surely is None
    assert clock.is_to_be_confirmed
    clock.learn(machine.right, machine.mono)  # it has been put right
    machine.passes(HOUR)
    clock.learn(machine.right, machine.mono)
    assert clock.surely == machine.right
    assert clock.doubted_ms == 0


@pytest.mark.row("E1")
def test_a_gateway_from_the_shelf_believes_the_cloud_once_another_session_says_the_same():
    machine = Machine(wall=86_400_000)  # no clock of its own, and two years in a box
    clock = Clock(machine, floor=TRUE - 2 * YEAR)
    clock.learn(machine.right, machine.mono)
    assert clock().wall == machine.right  # shown at once, but nothing is deleted by it
    assert clock.surely is None
    assert not clock.is_to_be_confirmed
    machine.passes(HOUR)
    assert clock.is_to_be_confirmed
    clock.learn(machine.right + 900, machine.mono)
    assert clock.surely == machine.right
    machine.passes(HOUR)
    assert clock.surely == machine.right


@pytest.mark.row("E1")
def test_a_machine_whose_clock_is_put_right_confirms_the_cloud_at_once():
    machine = Machine(wall=86_400_000)
    clock = Clock(machine)
    clock.learn(machine.right, machine.mono)
    assert clock.doubted_ms > 0
    machine.wall = machine.right
    assert clock.doubted_ms == 0
    found = clock.surely
    assert found == machine.right
