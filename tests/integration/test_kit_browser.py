"""A page of the kit is a real browser, and complains when the page does."""

import pytest
from playwright.sync_api import Page, expect

from tests.kit.browser import CHROMIUM, PageComplained, open_page

needs_chromium = pytest.mark.skipif(not CHROMIUM.exists(), reason="apt install chromium")


def test_a_page_runs_its_scripts(page: Page):
    page.set_content("<h1>Runs</h1><script>document.title = 'ready'</script>")
    expect(page).to_have_title("ready")
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()


@needs_chromium
@pytest.mark.parametrize(
    "script", ["console.error('no such run')", "throw new Error('no such run')"]
)
def test_an_error_in_the_page_fails_the_story(script):
    with pytest.raises(PageComplained, match="no such run"), open_page(dark=True) as page:
        page.set_content(f"<script>{script}</script>")


@needs_chromium
def test_an_error_that_the_story_provokes_is_allowed():
    with open_page(width=375, allowed=("no such run",)) as page:
        page.set_content("<script>console.error('no such run')</script>")


@needs_chromium
def test_a_failed_story_leaves_a_picture(tmp_path):
    picture = tmp_path / "failed.png"
    with pytest.raises(AssertionError, match="story"), open_page(trace=picture) as page:
        page.set_content("<p>here")
        raise AssertionError("story")
    assert picture.stat().st_size > 1000
