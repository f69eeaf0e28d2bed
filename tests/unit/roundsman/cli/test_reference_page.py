"""The reference page of the command line cannot go stale."""

from tests.kit.cli_help import PAGE, page


def test_the_page_is_what_the_help_says():
    assert PAGE.read_text() == page(), "run: python -m tests.kit.cli_help"
