"""The bootloader's other modes: overwrite, direct XIP with and without revert, RAM_LOAD."""

import hashlib
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.device.mcuboot import ImageInvalid, parse_image
from firmware_sim import recovery
from firmware_sim.flash import (
    UNBOOTABLE,
    ZEPHYR_4_4,
    Booted,
    Chunk,
    Flash,
    Mode,
    Refusal,
    Swap,
    Wanted,
    boot,
    erase,
    fresh,
    receive,
    set_state,
)
from firmware_sim.images import build_image

SLOT = 16384
ADDRESSES = (0x1_0000, 0x8_0000)
IN_PLACE = [mode for mode in Mode if mode.is_in_place]

pytestmark = pytest.mark.row("E9", "E6")


@lru_cache
def image(version: str, address: int | None = None) -> bytes:
    return build_image(version, 1200, address=address)


def uploaded(flash: Flash, data: bytes) -> Flash:
    start: dict[str, Any] = {"total": len(data), "sha256": hashlib.sha256(data).digest()}
    flash, answer = receive(flash, Chunk(0, data, **start), ZEPHYR_4_4)
    assert answer == Wanted(len(data), written=len(data))
    return flash


def marked(flash: Flash, *, confirm: bool = False) -> Flash:
    assert flash.other is not None
    after = set_state(flash, flash.other.hash, confirm=confirm)
    assert isinstance(after, Flash)
    return after


def test_an_overwritten_image_is_gone_and_stays_gone():
    after, booted = boot(
        marked(uploaded(fresh(image("1.0.0"), SLOT, Mode.OVERWRITE), image("2.0.0")))
    )
    assert (booted, after.running.version, after.other) == (Booted.SWAPPED, "2.0.0", None)
    assert after.is_confirmed
    assert boot(after) == (after, Booted.AS_BEFORE)


@pytest.mark.parametrize("mode", [Mode.DIRECT_XIP, Mode.RAM_LOAD])
def test_the_newer_image_boots_from_where_it_lies_and_never_goes_back(mode):
    after, booted = boot(uploaded(fresh(image("1.0.0"), SLOT, mode), image("2.0.0")))
    assert (booted, after.active_slot, after.running.version) == (Booted.SWAPPED, 1, "2.0.0")
    assert after.other is not None and after.other.version == "1.0.0"
    assert boot(after) == (after, Booted.AS_BEFORE)
    third, _ = boot(uploaded(after, image("3.0.0")))
    assert (third.active_slot, third.running.version) == (0, "3.0.0")


@pytest.mark.parametrize("mode", IN_PLACE)
def test_an_older_image_never_boots(mode):
    flash = uploaded(fresh(image("2.0.0"), SLOT, mode), image("1.9.9"))
    if mode.has_test:
        flash = marked(flash)
    after, booted = boot(flash)
    assert (booted, after.running.version, after.active_slot) == (Booted.AS_BEFORE, "2.0.0", 0)


def test_direct_xip_with_revert_tests_and_erases_what_is_not_confirmed():
    old = fresh(image("1.0.0"), SLOT, Mode.DIRECT_XIP_REVERT)
    on_test, booted = boot(marked(uploaded(old, image("2.0.0"))))
    assert (booted, on_test.active_slot, on_test.is_confirmed) == (Booted.SWAPPED, 1, False)
    back, booted = boot(on_test)
    assert (booted, back.active_slot, back.running.version) == (Booted.REVERTED, 0, "1.0.0")
    assert back.other is None
    kept = set_state(on_test, None, confirm=True)
    assert isinstance(kept, Flash)
    assert boot(kept) == (kept, Booted.AS_BEFORE)
    assert kept.other is not None and kept.is_other_kept


def test_direct_xip_with_revert_erases_what_nobody_marked():
    after, booted = boot(
        uploaded(fresh(image("1.0.0"), SLOT, Mode.DIRECT_XIP_REVERT), image("2.0.0"))
    )
    assert (booted, after.running.version, after.other) == (Booted.REFUSED, "1.0.0", None)


def test_an_image_linked_for_the_other_slot_does_not_boot():
    flash = fresh(image("1.0.0", ADDRESSES[0]), SLOT, Mode.DIRECT_XIP, ADDRESSES)
    wrong, booted = boot(uploaded(flash, image("2.0.0", ADDRESSES[0])))
    assert (booted, wrong.running.version, wrong.other) == (Booted.REFUSED, "1.0.0", None)
    right, booted = boot(uploaded(flash, image("2.0.0", ADDRESSES[1])))
    assert (booted, right.running.version) == (Booted.SWAPPED, "2.0.0")
    assert parse_image(image("2.0.0", ADDRESSES[1])).header.fixed_address == ADDRESSES[1]
    with pytest.raises(ImageInvalid, match="linked"):
        fresh(image("1.0.0", ADDRESSES[1]), SLOT, Mode.DIRECT_XIP, ADDRESSES)


def test_only_the_free_slot_is_erased():
    after, _ = boot(uploaded(fresh(image("1.0.0"), SLOT, Mode.DIRECT_XIP), image("2.0.0")))
    assert erase(after, 1, ZEPHYR_4_4) == Refusal(9)
    emptied = erase(after, 0, ZEPHYR_4_4)
    assert isinstance(emptied, Flash) and emptied.other is None


def test_recovery_writes_slot_0_and_what_it_writes_boots():
    broken = replace(fresh(image("1.0.0"), SLOT), running=UNBOOTABLE)
    assert boot(broken)[1] is Booted.NOTHING
    data, sha = image("2.0.0"), b"x" * 32
    flash, answer = recovery.receive(broken, Chunk(0, data[:600], len(data), sha))
    assert answer == Wanted(600, written=600)
    assert recovery.receive(flash, Chunk(100, data[100:700]))[1] == Wanted(600)
    assert recovery.receive(flash, Chunk(0, data[:50], len(data), sha))[1] == Wanted(50, written=50)
    flash, answer = recovery.receive(flash, Chunk(600, data[600:]))
    after, booted = boot(flash)
    assert (booted, after.running.version, after.is_confirmed) == (Booted.AS_BEFORE, "2.0.0", True)


@pytest.mark.parametrize(
    ("chunk", "rc"),
    [
        (Chunk(0, b"", 100), 22),
        (Chunk(0, bytes(64), 100), 23),
        (Chunk(0, image("2.0.0"), SLOT + 1), 30),
    ],
)
def test_recovery_refuses_what_is_no_image_and_keeps_what_it_has(chunk, rc):
    flash = fresh(image("1.0.0"), SLOT)
    assert recovery.receive(flash, chunk) == (flash, Refusal(rc))


@given(
    st.sampled_from(list(Mode)),
    st.lists(
        st.sampled_from(
            ["upload 0", "upload 2", "upload 3", "cut", "test", "keep", "confirm", "boot", "erase"]
        ),
        max_size=14,
    ),
)
def test_whatever_is_done_to_it_a_device_boots_a_whole_image(mode, words):
    """And an image that was never confirmed is not what runs after two boots with a way back."""
    flash = fresh(image("1.0.0"), SLOT, mode)
    for word in words:
        match word.split():
            case ["upload", number]:
                data = image(f"{number}.0.0")
                whole = Chunk(0, data, len(data), hashlib.sha256(data).digest())
                flash, _ = receive(flash, whole, ZEPHYR_4_4)
            case ["cut"]:
                data = image("3.0.0")
                flash, _ = receive(flash, Chunk(0, data[:300], len(data)), ZEPHYR_4_4)
            case ["test" | "keep"] if flash.other is not None and mode.has_test:
                asked = set_state(flash, flash.other.hash, confirm=word == "keep")
                flash = asked if isinstance(asked, Flash) else flash
            case ["confirm"] if mode.has_test:
                after = set_state(flash, None, confirm=True)
                assert isinstance(after, Flash)
                flash = after
            case ["erase"]:
                erased = erase(flash, None, ZEPHYR_4_4)
                flash = erased if isinstance(erased, Flash) else flash
            case ["boot"]:
                flash, booted = boot(flash)
                assert booted is not Booted.NOTHING
        assert flash.running.is_whole
        assert flash.active_slot == 0 or mode.is_in_place
    once, _ = boot(flash)
    twice, _ = boot(once)
    assert twice.is_confirmed or twice.swap is Swap.NONE
    if not once.is_confirmed:
        assert twice.running.hash != once.running.hash
