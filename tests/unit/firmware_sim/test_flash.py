"""Slots, swap and resume, row by row as they were measured on Zephyr with MCUboot."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from contract.device.mcuboot import ImageInvalid
from firmware_sim import flash as rules
from firmware_sim.flash import (
    ZEPHYR_3_4,
    ZEPHYR_4_4,
    Booted,
    Chunk,
    Flash,
    Refusal,
    Swap,
    Wanted,
    boot,
    erase,
    fresh,
    install,
    receive,
    set_state,
)
from firmware_sim.images import build_image

OLD = build_image("1.0.0", 2000, seed=1)
NEW = build_image("2.0.0", 3000, seed=2)
SHA = hashlib.sha256(NEW).digest()
SLOT = 16384

pytestmark = pytest.mark.row("E9", "E6")


@pytest.fixture
def idle() -> Flash:
    return fresh(OLD, SLOT)


def first(data: bytes = NEW[:400], **changes) -> Chunk:
    return replace(Chunk(0, data, len(NEW), SHA), **changes)


def uploaded(flash: Flash, image: bytes = NEW, firmware=ZEPHYR_4_4) -> Flash:
    offset = 0
    while offset < len(image):
        piece = image[offset : offset + 400]
        start: dict[str, Any] = (
            {} if offset else {"total": len(image), "sha256": hashlib.sha256(image).digest()}
        )
        flash, answer = receive(flash, Chunk(offset, piece, **start), firmware)
        assert isinstance(answer, Wanted)
        offset = answer.offset
    return flash


def marked_for_test(flash: Flash, **how) -> Flash:
    marked = set_state(flash, flash.other.hash, **{"confirm": False, **how})
    assert isinstance(marked, Flash)
    return marked


def test_a_whole_upload_is_listed_and_changes_nothing_that_runs(idle):
    after = uploaded(idle)
    assert (after.running.version, after.other.version) == ("1.0.0", "2.0.0")
    assert after.other.data == NEW
    assert after.swap is Swap.NONE
    assert boot(after) == (after, Booted.AS_BEFORE)


def test_test_boot_swaps_and_an_unconfirmed_image_reverts_at_any_reset(idle):
    running, booted = boot(marked_for_test(uploaded(idle)))
    assert booted is Booted.SWAPPED
    assert (running.running.version, running.other.version) == ("2.0.0", "1.0.0")
    assert not running.is_confirmed
    reverted, booted = boot(running)
    assert booted is Booted.REVERTED
    assert (reverted.running.version, reverted.other.version) == ("1.0.0", "2.0.0")
    assert reverted.is_confirmed
    assert boot(reverted)[1] is Booted.AS_BEFORE


@pytest.mark.parametrize("by_hash", [False, True])
def test_a_confirmed_image_stays_and_the_old_one_is_no_longer_listed(idle, by_hash):
    running, _ = boot(marked_for_test(uploaded(idle)))
    confirmed = set_state(running, running.running.hash if by_hash else None, confirm=True)
    assert isinstance(confirmed, Flash)
    assert confirmed.other is None
    after, booted = boot(confirmed)
    assert booted is Booted.AS_BEFORE
    assert (after.running.version, after.is_confirmed) == ("2.0.0", True)


def test_a_permanent_swap_needs_no_confirmation(idle):
    after, booted = boot(marked_for_test(uploaded(idle), confirm=True))
    assert (booted, after.is_confirmed) == (Booted.SWAPPED, True)


def test_a_damaged_image_is_not_booted(idle):
    damaged = NEW[:1000] + bytes([NEW[1000] ^ 1]) + NEW[1001:]
    after, booted = boot(marked_for_test(uploaded(idle, damaged)))
    assert booted is Booted.REFUSED
    assert (after.running.version, after.other) == ("1.0.0", None)


def test_a_chunk_sent_twice_or_with_a_gap_writes_nothing_and_names_the_wanted_offset(idle):
    flash, _ = receive(idle, first(), ZEPHYR_4_4)
    for offset in (100, 800):
        again, answer = receive(flash, Chunk(offset, NEW[offset : offset + 400]), ZEPHYR_4_4)
        assert again == flash
        assert answer == Wanted(400)


def test_the_same_sha_at_offset_zero_resumes(idle):
    flash, _ = receive(idle, first(), ZEPHYR_4_4)
    again, answer = receive(flash, first(), ZEPHYR_4_4)
    assert again == flash
    assert answer == Wanted(400, resumed=True)


def test_an_empty_first_chunk_is_refused_and_resets_the_session(idle):
    flash, _ = receive(idle, first(), ZEPHYR_4_4)
    reset, answer = receive(flash, first(b""), ZEPHYR_4_4)
    assert answer == Refusal(22)
    assert receive(reset, Chunk(400, NEW[400:800]), ZEPHYR_4_4)[1] == Wanted(0)


@pytest.mark.parametrize("sha256", [b"", b"\x01" * 32])
def test_no_or_another_sha_at_offset_zero_restarts(idle, sha256):
    flash, _ = receive(idle, first(), ZEPHYR_4_4)
    flash, _ = receive(flash, Chunk(400, NEW[400:800]), ZEPHYR_4_4)
    assert receive(flash, first(sha256=sha256), ZEPHYR_4_4)[1] == Wanted(400, written=400)


def test_a_reboot_in_the_middle_asks_for_everything_again(idle):
    flash, _ = receive(idle, first(), ZEPHYR_4_4)
    rebooted, _ = boot(flash)
    assert receive(rebooted, Chunk(400, NEW[400:800]), ZEPHYR_4_4)[1] == Wanted(0)
    assert rebooted.other is None


def test_the_same_image_again_is_known_to_3_4_and_starts_over_on_4_4(idle):
    done = uploaded(idle, firmware=ZEPHYR_3_4)
    assert receive(done, first(), ZEPHYR_3_4)[1] == Wanted(len(NEW), match=True)
    done = uploaded(idle, firmware=ZEPHYR_4_4)
    assert receive(done, first(), ZEPHYR_4_4)[1] == Wanted(400, written=400)


def test_only_3_4_says_at_the_end_whether_it_matches(idle):
    answers = {}
    for firmware in (ZEPHYR_3_4, ZEPHYR_4_4):
        flash, _ = receive(idle, first(NEW[:2500]), firmware)
        answers[firmware] = receive(flash, Chunk(2500, NEW[2500:]), firmware)[1]
    assert (answers[ZEPHYR_3_4].match, answers[ZEPHYR_4_4].match) == (True, None)


def test_an_image_too_large_is_refused_at_once_or_when_the_slot_is_full(idle):
    assert receive(idle, first(total=SLOT + 1), ZEPHYR_4_4)[1] == Refusal(30)
    flash, answer = receive(idle, first(total=SLOT + 400), ZEPHYR_3_4)
    assert answer == Wanted(400, written=400)
    assert receive(flash, Chunk(400, bytes(SLOT)), ZEPHYR_3_4)[1] == Refusal(31)


def test_a_new_upload_while_one_is_pending(idle):
    pending = marked_for_test(uploaded(idle))
    assert receive(pending, first(), ZEPHYR_3_4)[1] == Refusal(9)
    assert erase(pending, 1, ZEPHYR_3_4) == Refusal(9)
    flash, answer = receive(pending, first(), ZEPHYR_4_4)
    assert answer == Wanted(400, written=400)
    assert (flash.swap, flash.other) == (Swap.NONE, None)
    assert isinstance(erase(pending, 1, ZEPHYR_4_4), Flash)


@pytest.mark.parametrize(
    ("chunk", "rc"),
    [
        (first(bytes(400)), 23),
        (first(total=None), 21),
        (first(NEW[:31]), 22),
        (Chunk(0, OLD[:400], len(OLD), SHA, upgrade=True), 27),
    ],
)
def test_first_chunks_that_are_refused(idle, chunk, rc):
    assert receive(idle, chunk, ZEPHYR_4_4)[1] == Refusal(rc)


def test_state_writes_that_are_refused(idle):
    after = uploaded(idle)
    assert set_state(after, None, confirm=False) == Refusal(24)
    assert set_state(after, bytes(32), confirm=False) == Refusal(8)
    assert set_state(after, after.running.hash, confirm=False) == Refusal(33)
    assert erase(after, 0, ZEPHYR_4_4) == Refusal(9)
    assert erase(after, 5, ZEPHYR_4_4) == Refusal(14)


def test_the_way_back_of_a_test_boot_is_not_overwritten(idle):
    running, _ = boot(marked_for_test(uploaded(idle)))
    assert receive(running, first(), ZEPHYR_4_4)[1] == Refusal(9)
    assert erase(running, 1, ZEPHYR_4_4) == Refusal(9)
    assert install(running, NEW) == Refusal(9)


def test_a_device_installs_what_it_has_downloaded_only_if_it_is_whole_and_fits(idle):
    installed = install(idle, NEW)
    assert isinstance(installed, Flash)
    assert boot(installed)[0].running.version == "2.0.0"
    assert install(idle, NEW[:-10]) == Refusal(22)
    assert install(idle, bytes(SLOT + 1)) == Refusal(30)


def test_a_factory_image_must_boot():
    with pytest.raises(ImageInvalid):
        fresh(b"no image", SLOT)
    with pytest.raises(ImageInvalid, match="does not fit"):
        fresh(OLD, 1000)
    assert rules.store(b"noise") is None
