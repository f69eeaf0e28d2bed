"""The console in real Chromium: log in, watch a run live, look into its tasks, on any screen."""

import re

import httpx
import pytest
from playwright.sync_api import Page, expect

from contract.lifecycle import RUN_ENDS
from tests.kit.browser import open_page
from tests.kit.rig import Rig
from tests.kit.rig_jobs import command_job, delay, firmware_job
from tests.kit.rig_site import mqtt, smp
from tests.kit.waiting import wait_until

pytestmark = [pytest.mark.row("F1"), pytest.mark.xdist_group("browser")]


def _log_in(page: Page, rig: Rig, path: str = "/") -> None:
    page.goto(f"{rig.url}{path}")
    page.get_by_label("Token").fill(rig.token)
    page.get_by_role("button", name="Log in").click()


@pytest.mark.row("C9", "C1", "F5")
def test_an_operator_starts_a_run_and_watches_it_live(rig: Rig, page: Page):
    rig.add_gateway("north", [smp("pump-1"), mqtt("meter-1")])
    rig.push_image()
    rig.client.jobs.create(_json(firmware_job()))

    _log_in(page, rig, "/jobs/firmware")
    expect(page.get_by_role("heading", name="firmware")).to_be_visible()
    page.get_by_role("button", name="Run now").click()

    expect(page).to_have_url(re.compile(f"{rig.url}/runs/.*"))
    run = page.url.rpartition("/")[2]
    # Not reloaded from here on: what changes, changes by itself.
    expect(page.locator("#live-state")).to_have_text("live")
    expect(page.locator("#live .chip").first).to_contain_text("succeeded")
    expect(page.locator("tr[id^=task-]")).to_have_count(2)
    expect(page.locator("tr[id^=task-] .chip.succeeded")).to_have_count(2)
    rig.finish(run)

    page.get_by_role("link", name="pump-1").click()
    steps = page.locator(".steps > li")
    expect(steps).to_have_count(6)
    expect(steps.first).to_contain_text("firmware.upload")
    expect(steps.first).to_contain_text(re.compile("started .* completed"))
    for address, text in (("/runs", "firmware"), ("/devices", "meter-1"), ("/gateways", "online")):
        page.goto(f"{rig.url}{address}")
        expect(page.locator("#live")).to_contain_text(text)


@pytest.mark.row("A1")
def test_jobs_in_any_language_show_what_they_are_about_and_when_they_last_ran(rig: Rig, page: Page):
    rig.add_gateway("north", [mqtt("meter-1")])
    job = rig.client.jobs.create(_json({**command_job(), "id": None, "name": "泵 更新 🚀"}))
    rows = {**command_job("rows"), "targets": {"resource": "gateway", "query": {"id": "north"}}}
    rig.client.jobs.create(_json({**rows, "name": "Шлюзы"}))
    rig.finish(rig.client.jobs.run(job.id).id)

    _log_in(page, rig, "/jobs")
    done, fresh = page.locator(f"#job-{job.id}"), page.locator("#job-rows")
    expect(done).to_contain_text("泵 更新 🚀")
    expect(done.locator("[data-label=Targets]")).to_have_text("device")
    expect(done.locator("[data-label='Last run'] time")).to_be_visible()
    expect(fresh).to_contain_text("Шлюзы")
    expect(fresh.locator("[data-label=Targets]")).to_have_text("gateway")
    expect(fresh.locator("[data-label='Last run']")).to_have_text("never")
    rig.client.jobs.duplicate(job.id, name="عنوان")
    page.reload()
    expect(page.get_by_role("link", name="عنوان")).to_be_visible()
    page.get_by_role("link", name="泵 更新 🚀").click()
    expect(page.get_by_role("heading", name="泵 更新 🚀")).to_be_visible()


@pytest.mark.row("C3")
def test_a_cancel_says_what_it_will_do(rig: Rig, page: Page):
    rig.add_gateway("north", [mqtt("meter-1"), mqtt("meter-2")])
    run = rig.start(command_job("long", [delay("30s"), delay("30s")], concurrency=1))
    rig.wait_for_counts(run, lambda counts: counts.in_flight == 1)

    _log_in(page, rig, f"/runs/{run}")
    expect(page.get_by_text("1 not started will never start; 1 in flight will")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()

    expect(page.locator("#live .chip").first).to_contain_text("cancelling")
    expect(page.locator("tr[id^=task-] .chip.cancelled")).to_have_count(1)
    rig.client.runs.cancel(run, force=True)
    expect(page.locator("#live .chip").first).to_contain_text("cancelled")


def test_a_page_heals_when_the_cloud_was_gone(rig: Rig):
    rig.add_gateway("north", [mqtt("meter-1")])
    allowed = ("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET")
    with open_page(allowed=(*allowed, "htmx:sse:error", "network error")) as page:
        _log_in(page, rig)
        expect(page.locator("#live-state")).to_have_text("live")
        rig.cloud.kill_9()
        expect(page.locator("#live-state")).to_contain_text("reconnecting")
        rig.start_cloud()
        expect(page.locator("#live-state")).to_have_text("live")
        run = rig.start(command_job())
        rig.finish(run)
        expect(page.locator("#job-command .chip")).to_contain_text("succeeded")


def test_everything_reads_without_scripts_and_markup_is_harmless(rig: Rig):
    rig.add_gateway("north", [mqtt("meter-1")])
    hostile = "<script>alert(1)</script><b>bold</b>"
    job = {**command_job(), "name": hostile, "description": hostile}
    rig.finish(rig.start(job))
    with httpx.Client(base_url=rig.url, follow_redirects=True) as browser:
        answer = browser.post("/login", data={"token": rig.token})
        assert hostile not in answer.text
        assert "&lt;script&gt;" in answer.text
        for path in ("/", "/runs", "/jobs/command", "/devices", "/gateways", "/runs?show=failed"):
            page = browser.get(path)
            assert page.status_code == 200
            assert "script-src 'self'" in page.headers["content-security-policy"]
            assert " style=" not in page.text
        assert browser.get("/jobs/nobody").status_code == 404
        assert browser.get("/jobs?cursor=nonsense").status_code == 422


def test_a_stranger_sees_the_login_and_changes_nothing(rig: Rig):
    rig.add_gateway("north", [mqtt("meter-1")])
    run = rig.start(command_job("long", [delay("60s")]))
    with httpx.Client(base_url=rig.url) as browser:
        assert browser.get(f"/runs/{run}").headers["location"] == f"/login?next=/runs/{run}"
        assert browser.get(f"/live/runs/{run}").status_code == 401
        assert browser.post("/login", data={"token": "guess"}).status_code == 401
        assert browser.post(f"/runs/{run}/cancel").status_code == 303
        signed_in = browser.post("/login", data={"token": rig.token, "next": "//evil.example"})
        assert signed_in.headers["location"] == "/"
        # A form of another site brings the cookie along, but not the token of our pages.
        assert browser.post(f"/runs/{run}/cancel").status_code == 403
    assert rig.client.runs.get(run).status not in RUN_ENDS
    rig.client.runs.cancel(run, force=True)


@pytest.mark.parametrize(("width", "dark"), [(375, True), (1280, False)])
def test_a_phone_in_the_dark_shows_all_that_a_desk_does(rig: Rig, width: int, dark: bool):
    rig.add_gateway("north", [mqtt("meter-1")])
    run = rig.start(command_job())
    rig.finish(run)
    with open_page(width=width, dark=dark) as page:
        _log_in(page, rig, f"/runs/{run}")
        row = page.locator("tr[id^=task-]")
        expect(row).to_contain_text("meter-1")
        expect(row).to_contain_text("succeeded")
        wait_until(
            lambda: page.evaluate("document.documentElement.scrollWidth <= innerWidth"),
            message="the page to fit the screen",
        )
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to content")).to_be_focused()


def _json(document: object) -> str:
    import json

    return json.dumps(document)


@pytest.mark.row("C6", "C8")
def test_a_run_shows_its_triggers_and_hands_out_its_report(rig: Rig, page: Page):
    rig.add_gateway("north", [mqtt("meter-1")])
    rig.client.jobs.create(_json({**command_job("mail"), "targets": {"query": {"id": "none"}}}))
    watched = {**command_job(), "on_complete": [{"run": "mail"}, {"run": "gone"}]}
    rig.client.jobs.create(_json({**command_job("gone"), "targets": {"query": {"id": "none"}}}))
    run = rig.start(watched)
    rig.client.jobs.delete("gone")
    rig.finish(run)
    statuses = {"mail": "fired", "gone": "failed"}
    wait_until(
        lambda: {f.job: f.status for f in rig.client.runs.triggers(run)} == statuses,
        30,
        lambda: f"{list(rig.client.runs.triggers(run))}",
    )

    _log_in(page, rig, f"/runs/{run}")
    fired = page.locator(".firings li")
    expect(fired).to_have_count(2)
    expect(fired.filter(has_text="mail")).to_contain_text("fired")
    expect(fired.filter(has_text="gone")).to_contain_text("there is no job")
    page.get_by_role("button", name="Make a report link").click()
    address = page.locator("#report-link a").first.get_attribute("href")
    assert address is not None
    report = httpx.get(address if address.startswith("http") else f"{rig.url}{address}")
    assert (report.status_code, "meter-1" in report.text) == (200, True)
    page.goto(f"{rig.url}/jobs/mail")
    expect(page.locator(".facts")).to_contain_text("Started by triggers of")
