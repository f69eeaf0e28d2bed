"""What stays of runs, through the API: finding, logs, results, waiting, links, deletion."""

import asyncio
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from contract.lifecycle import TaskStatus
from contract.messages import Failure, TaskSnapshot
from tests.integration.api.conftest import NOW, Service

PATIENT = "name: greet\nretry: {attempts: 1}\nsteps: [{uses: flow.log, with: {text: hello}}]\n"


async def answer_all(api: Service, *ends: TaskStatus) -> None:
    for (address, task), status in zip(await api.offer(), ends, strict=True):
        failure = Failure(code="device_refused", text="no") if status is TaskStatus.FAILED else None
        await api.report(
            address,
            TaskSnapshot(
                task=task.task, attempt=task.attempt, revision=1, status=status, begun=True,
                result={"said": "hello"} if failure is None else None, failure=failure,
            ),
        )  # fmt: skip


async def settle(api: Service, run: str) -> None:
    from cloud.coordinator.runs import settle_run

    while await api.database.run(settle_run, run, api.now):
        pass


async def a_run(api: Service, devices: int = 3) -> str:
    await api.join("berlin", devices)
    return await api.start(await api.save_job(PATIENT))


async def texts(api: Service, run: str, **query: Any) -> list[str]:
    answer = await api.get(f"/runs/{run}/log", params=query)
    assert answer.status_code == 200, answer.text
    return [line["text"] for line in answer.json()["items"]]


@pytest.mark.row("C11")
async def test_lines_are_added_also_after_the_end_and_an_error_marks_the_run(api: Service):
    run = await a_run(api, 0)
    await settle(api, run)
    assert not (await api.get(f"/runs/{run}")).json()["has_errors"]
    for level, text in (("INFO", "all quiet"), ("ERROR", "50% of it _failed_")):
        line = {"text": text, "level": level, "data": {"part": 7}}
        assert (await api.post(f"/runs/{run}/log", json=line)).status_code == 204
    assert (await api.get(f"/runs/{run}")).json()["has_errors"]
    answer = await api.get(f"/runs/{run}/log", params={"level": "ERROR"})
    (line,) = answer.json()["items"]
    assert (line["source"], line["data"]) == ("client", {"part": 7, "by": "administrator"})
    assert await texts(api, run, contains="% of it _f") == ["50% of it _failed_"]
    assert await texts(api, run, contains="all_quiet") == []
    assert "run started" in await texts(api, run)
    wrong = await api.post(f"/runs/{run}/log", json={"text": "x", "task": f"{run}-9"})
    assert wrong.status_code == 422
    assert (await api.post("/runs/none/log", json={"text": "x"})).status_code == 404


@pytest.mark.row("C11")
async def test_a_page_goes_on_though_the_period_until_now_begins_later(api: Service):
    run = await a_run(api, 0)
    for number in range(3):
        await api.post(f"/runs/{run}/log", json={"text": f"line {number}"})
    asked: dict[str, Any] = {"period": "2h 30m", "limit": 2}
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        page = {**asked, "cursor": cursor} if cursor else asked
        found = (await api.get(f"/runs/{run}/log", params=page)).json()
        seen += [line["text"] for line in found["items"]]
        cursor = found.get("next_cursor")
        api.now += 60_000
    assert seen == await texts(api, run)
    assert "line 2" in seen


@pytest.mark.row("C11")
async def test_lines_are_found_by_period_and_either_end_goes_over_it(api: Service):
    run = await a_run(api, 0)
    assert await texts(api, run, period="today") == await texts(api, run)
    assert await texts(api, run, period="2h 30m")
    assert await texts(api, run, period="yesterday") == []
    assert await texts(api, run, period="yesterday", to=str(NOW + 1))
    assert await texts(api, run, **{"from": str(NOW + 1)}) == []
    for wrong in ({"period": "soon"}, {"from": "soon"}, {"period": "today", "zone": "Mars/X"}):
        answer = await api.get(f"/runs/{run}/log", params=wrong)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


@pytest.mark.row("C10")
async def test_runs_are_found_by_status_type_time_and_errors(api: Service):
    run = await a_run(api, 2)

    async def found(**query: Any) -> bool:
        answer = await api.get("/runs", params=query)
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in answer.json()["items"]] == [run]

    assert await found(status="RUNNING,FINISHED")
    assert await found(status=["paused", "running"])
    assert not await found(status="FINISHED")
    assert not await found(has_errors="true")
    await answer_all(api, TaskStatus.SUCCEEDED, TaskStatus.FAILED)
    assert await found(has_errors="true", status="running")
    await settle(api, run)
    assert await found(status="FINISHED", has_errors="true", job="greet")
    assert await found(created_from="2027-01-15T08:00:00Z", created_to=NOW + 1)
    assert not await found(created_to=NOW)
    assert await found(started_from=NOW, ended_to="2027-01-15T09:00:01+01:00")
    assert not await found(ended_from=NOW + 1)
    assert not await found(type="firmware")
    wrong = await api.get("/runs", params={"ended_to": "soon"})
    assert wrong.json()["errors"][0]["key"] == "ended_to"


@pytest.mark.row("C10")
async def test_results_are_one_for_each_target_paged_and_complete(api: Service):
    run = await a_run(api, 3)
    path = f"/runs/{run}/results"
    assert {item["ok"] for item in (await api.get(path)).json()["items"]} == {None}
    await answer_all(api, TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.SUCCEEDED)
    found: list[dict[str, Any]] = []
    cursor = None
    while cursor is not None or not found:
        query = {"limit": 1} | ({"cursor": cursor} if cursor else {})
        page = (await api.get(path, params=query)).json()
        found += page["items"]
        cursor = page["next_cursor"]
    assert [(item["target"], item["ok"]) for item in found] == [
        ("berlin-0", True), ("berlin-1", False), ("berlin-2", True),
    ]  # fmt: skip
    assert found[0]["response"] == {"said": "hello"}
    assert (found[1]["code"], found[1]["message"]) == (
        "device_refused", "The device answered, and said no. no",
    )  # fmt: skip


@pytest.mark.row("C12")
async def test_waiting_ends_with_the_status_the_time_or_no_hope(api: Service):
    run = await a_run(api, 1)
    path = f"/runs/{run}/wait"
    reached = await api.get(path, params={"for": "running,paused", "timeout": "1s"})
    assert reached.json()["status"] == "running"
    late = await api.get(path, params={"timeout": "50ms"})
    assert (late.status_code, late.json()["code"]) == (408, "wait_timed_out")
    assert (await api.get(path)).status_code == 422
    assert (await api.get(path, params={"for": "done", "timeout": "1s"})).status_code == 422
    async with asyncio.TaskGroup() as group:
        asked = api.get(path, params={"for": "FINISHED", "timeout": "60s"})
        waiting = group.create_task(asked, name="waiting")
        await answer_all(api, TaskStatus.SUCCEEDED)
        await settle(api, run)
        api.services.changes.touched(runs={run})
    assert waiting.result().json()["status"] == "succeeded"
    never = await api.get(path, params={"for": "cancelled", "timeout": "1m"})
    assert (never.status_code, never.json()["code"]) == (409, "unreachable")


@pytest.mark.row("C6", "C7")
async def test_a_report_link_works_without_a_token_until_the_job_is_deleted(api: Service):
    run = await a_run(api, 1)
    link = (await api.post(f"/runs/{run}/report-link")).json()
    async with api.client_with(None) as stranger:
        for kind in ("csv", "ndjson"):
            report = await stranger.get(link[kind])
            assert report.status_code == 200, report.text
            assert "berlin-0" in report.text
        parts = urlsplit(link["csv"])
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        for change in ({"until": str(int(query["until"]) + 1)}, {"signature": "0" * 64}):
            forged = await stranger.get(parts.path, params={**query, **change})
            assert forged.json()["code"] == "link_invalid"
        other = await stranger.get(parts.path.replace(".csv", ".ndjson"), params=query)
        assert other.json()["code"] == "link_invalid"
        deleted = await api.client.delete("/api/v1/jobs/greet")
        assert deleted.json()["run"] == run
        gone = await stranger.get(link["csv"])
        assert (gone.status_code, gone.json()["code"]) == (410, "deleted")
    for path in ("", "/log", "/results", "/tasks", "/report.csv", "/triggers"):
        assert (await api.get(f"/runs/{run}{path}")).status_code == 410, path
    assert (await api.post(f"/runs/{run}/report-link")).status_code == 410
    assert (await api.get("/jobs/greet")).status_code == 404


@pytest.mark.row("C6", "C14")
async def test_a_run_knows_the_runs_that_its_steps_started(api: Service):
    run = await a_run(api, 1)
    await api.save_job("name: other\nsteps: [{uses: flow.log, with: {text: hi}}]\n")
    headers = {"x-roundsman-run": run, "x-roundsman-task": f"{run}-0", "x-roundsman-attempt": "1"}
    started = (await api.post("/jobs/other/runs", json={}, headers=headers)).json()
    assert (started["origin"]["kind"], started["origin"]["run"]) == ("step", run)
    assert (started["origin"]["task"], started["depth"]) == (f"{run}-0", 1)
    found = (await api.get("/runs", params={"started_by": run})).json()["items"]
    assert [item["id"] for item in found] == [started["id"]]
    assert "a step started other" in await texts(api, run)


@pytest.mark.row("C8")
async def test_references_of_a_job(api: Service):
    await api.save_job("name: mail\nsteps: [{uses: flow.log, with: {text: hi}}]\n")
    await api.save_job(PATIENT + "on_complete: [{run: mail}]\n")
    found = (await api.get("/jobs/greet/references")).json()
    assert found["triggers"] == [{"job": "mail", "kind": "on_complete", "place": "on_complete[0]"}]
    back = (await api.get("/jobs/mail/references")).json()
    assert [item["job"] for item in back["triggered_by"]] == ["greet"]
    assert (await api.get("/jobs/none/references")).status_code == 404
