"""Generated pages are those of today's code, and each is listed once."""

from tests.kit import generated_docs


def test_every_generated_page_is_up_to_date():
    assert generated_docs.stale() == [], "run `make docs` and commit what it writes"


def test_the_life_cycle_page_shows_every_status():
    text = generated_docs.life_cycles()
    for word in ("partially_succeeded", "awaiting", "skipped", "mermaid", "tasks may start"):
        assert word in text


def test_pages_are_written_once(tmp_path):
    written = generated_docs.write(tmp_path)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in written) == sorted(
        generated_docs.PAGES
    )
    assert generated_docs.write(tmp_path) == []
    (tmp_path / "failures.md").write_text("old")
    assert generated_docs.stale(tmp_path) == ["failures.md"]
