"""A page in real Chromium that fails its test on any console error, page error or CSP report."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import ConsoleMessage, Page, Response, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
_ARGUMENTS = [
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_DEADLINE_MS = 20_000


class PageComplained(AssertionError):
    """The browser reported an error that the test did not expect."""


@contextmanager
def open_page(
    width: int = 1280, dark: bool = False, allowed: tuple[str, ...] = (), trace: Path | None = None
) -> Iterator[Page]:
    """An empty page; `page.goto(url)` comes next.

    `allowed` are texts that may stand in a complaint, for stories that provoke one. When the
    test fails, `trace` receives a screenshot. Raises PageComplained at the end.
    """
    complaints: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(f"console: {message.text} ({message.location.get('url', '')})")

    def on_response(response: Response) -> None:
        if response.status >= 500:
            complaints.append(f"HTTP {response.status}: {response.url}")

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=_ARGUMENTS)
        try:
            context = browser.new_context(
                viewport={"width": width, "height": 900},
                color_scheme="dark" if dark else "light",
                accept_downloads=True,
            )
            context.set_default_timeout(_DEADLINE_MS)
            page = context.new_page()
            page.on("console", on_console)
            page.on("pageerror", lambda error: complaints.append(f"script: {error}"))
            page.on("response", on_response)
            try:
                yield page
            except BaseException:
                if trace is not None and not page.is_closed():
                    page.screenshot(path=str(trace))
                raise
        finally:
            browser.close()
    unexpected = [line for line in complaints if not any(text in line for text in allowed)]
    if unexpected:
        raise PageComplained("\n".join(unexpected))
