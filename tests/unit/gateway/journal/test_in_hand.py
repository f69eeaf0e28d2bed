"""What a process died of: kept over its death, counted alone, forgotten once it went well."""

from pathlib import Path

import pytest

from gateway.journal.in_hand import DEATHS_ALLOWED, InHand


def died_of(folder: Path, what: str) -> None:
    """A process takes it alone and never comes back."""
    assert InHand(folder).take(what)


@pytest.mark.row("E1")
def test_what_a_process_died_of_too_often_is_not_taken_again(tmp_path: Path):
    assert not InHand(tmp_path).is_careful
    InHand(tmp_path).take_many()  # died in a batch: nobody knows of what
    for _ in range(DEATHS_ALLOWED):
        page = InHand(tmp_path)
        assert page.is_careful
        assert page.take("offer other")
        page.put_down("offer other")
        died_of(tmp_path, "offer bad")
    page = InHand(tmp_path)
    assert not page.take("offer bad")
    assert page.take("offer other")


def test_what_went_well_is_no_suspect_any_more(tmp_path: Path):
    died_of(tmp_path, "offer one")
    page = InHand(tmp_path)
    assert page.take("offer one")
    page.put_down("offer one")
    assert not InHand(tmp_path).is_careful


def test_an_end_with_nothing_in_hand_leaves_no_trace(tmp_path: Path):
    page = InHand(tmp_path)
    page.take_many()
    page.put_down()
    assert not InHand(tmp_path).is_careful


def test_there_is_room_for_many_suspects_and_the_page_never_grows(tmp_path: Path):
    for number in range(300):
        died_of(tmp_path, f"offer {number}")
    died_of(tmp_path, "offer 299")
    assert not InHand(tmp_path).take("offer 299")
    assert (tmp_path / "in_hand").stat().st_size < 4096
