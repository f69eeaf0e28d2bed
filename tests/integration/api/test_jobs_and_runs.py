"""Jobs and runs over HTTP: saved, changed, started once, cancelled, followed, reported."""

import asyncio
import csv
import io
import json
from uuid import uuid4

import pytest

from contract.http.runs import Run
from contract.http.tasks import Task
from contract.lifecycle import TaskStatus
from contract.messages import Failure, TaskSnapshot
from tests.integration.api.conftest import JOB


async def test_a_job_is_saved_from_yaml_and_from_json(api):
    answer = await api.post("/jobs", content=JOB, headers={"content-type": "application/yaml"})
    assert answer.status_code == 201
    assert answer.headers["location"] == "/api/v1/jobs/greet"
    assert answer.headers["etag"] == '"1"'
    document = {"name": "Other one", "steps": [{"uses": "flow.log", "with": {"text": "x"}}]}
    answer = await api.post("/jobs", json=document)
    assert answer.json()["id"] == "other-one"
    listed = (await api.get("/jobs")).json()["items"]
    assert [job["id"] for job in listed] == ["other-one", "greet"]
    one = (await api.get("/jobs/greet")).json()
    assert one["document"]["steps"][0]["uses"] == "flow.log"
    assert one["created_by"] == "administrator"


async def test_a_job_that_is_wrong_says_line_column_and_key(api):
    text = "name: greet\nsteps:\n  - uses: flow.log\n    wiht: {text: x}\n"
    answer = await api.post("/jobs", content=text)
    assert answer.status_code == 422
    found = answer.json()
    assert found["code"] == "document_invalid"
    (item,) = found["errors"]
    assert (item["line"], item["column"], item["key"]) == (4, 5, "steps[0].wiht")
    assert "did you mean `with`" in item["message"]
    assert (await api.get("/jobs")).json()["items"] == []


async def test_a_job_changes_only_for_who_has_seen_it(api):
    await api.save_job()
    url = "/api/v1/jobs/greet"
    changed = JOB + "description: more\n"
    answer = await api.client.put(url, content=changed, headers={"if-match": '"1"'})
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')
    answer = await api.client.put(url, content=changed, headers={"if-match": '"1"'})
    assert (answer.status_code, answer.json()["code"]) == (412, "changed")
    answer = await api.client.put(url, content=changed, headers={"if-match": "nonsense"})
    assert answer.status_code == 422
    answer = await api.client.put(url, content="id: other\n" + JOB)
    assert (answer.status_code, answer.json()["errors"][0]["key"]) == (422, "id")


async def test_a_name_in_use_is_a_conflict_and_delete_frees_it(api):
    await api.save_job()
    answer = await api.post("/jobs", content=JOB)
    assert (answer.status_code, answer.json()["code"]) == (409, "exists")
    assert (await api.client.delete("/api/v1/jobs/greet")).json()["job"] == "greet"
    assert (await api.client.delete("/api/v1/jobs/greet")).status_code == 404
    await api.save_job()


async def test_a_repeated_start_is_one_run(api):
    await api.join("north", 2)
    job = await api.save_job()
    run = str(uuid4())
    first = await api.post(f"/jobs/{job}/runs", json={"id": run})
    again = await api.post(f"/jobs/{job}/runs", json={"id": run})
    by_key = await api.post(f"/jobs/{job}/runs", headers={"idempotency-key": run})
    assert [one.status_code for one in (first, again, by_key)] == [201, 201, 201]
    assert {one.json()["id"] for one in (first, again, by_key)} == {run}
    other = await api.post(f"/jobs/{job}/runs")
    assert (other.status_code, other.json()["code"]) == (409, "run_in_flight")
    assert other.json()["run"] == run
    bad = await api.post(f"/jobs/{job}/runs", json={"id": "not-a-uuid"})
    assert bad.status_code == 422
    assert (await api.post("/jobs/nobody/runs")).status_code == 404


async def test_runs_are_found_by_status_in_our_words_and_the_seeds(api):
    await api.join("north", 1)
    run = await api.start(await api.save_job())

    async def found(query):
        return [one["id"] for one in (await api.get(f"/runs{query}")).json()["items"]]

    assert await found("") == [run]
    assert await found("?status=running") == await found("?status=RUNNING")
    assert await found("?status=succeeded&status=failed") == []
    assert await found("?status=running,scheduled,CANCELED") == [run]
    assert await found("?job=greet") == [run]
    assert await found("?job=other") == []


async def test_a_run_is_cancelled_once_and_for_all(api):
    await api.join("north", 1)
    run = await api.start(await api.save_job())
    answer = await api.post(f"/runs/{run}/cancel", json={"reason": "enough"})
    assert answer.json()["status"] in ("cancelling", "cancelled")
    assert (await api.post("/runs/nothing/cancel")).status_code == 404


async def test_tasks_pages_hold_every_task_once(api):
    await api.join("north", 7)
    run = await api.start(await api.save_job())
    seen: list[str] = []
    cursor = None
    while True:
        query = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = (await api.get(f"/runs/{run}/tasks", params=query)).json()
        seen.extend(task["id"] for task in page["items"])
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [f"{run}-{n}" for n in range(len(seen))]
    assert len(seen) == 7
    one = (await api.get(f"/tasks/{seen[0]}")).json()
    assert one["status"] == "scheduled"
    assert (await api.get(f"/tasks/{run}-99")).status_code == 404
    log = (await api.get(f"/runs/{run}/log")).json()["items"]
    assert "run started" in [line["text"] for line in log]


async def finish(api, fail=0):
    """Have gateways report what they were offered: all well but the first `fail` tasks."""
    offered = await api.offer()
    for number, (address, task) in enumerate(offered):
        failure = Failure(code="device_refused", text="=1+1, it said") if number < fail else None
        snapshot = TaskSnapshot(
            task=task.task, attempt=task.attempt, revision=1, begun=True,
            status=TaskStatus.FAILED if failure else TaskStatus.SUCCEEDED,
            failure=failure, result={"n": number},
        )  # fmt: skip
        await api.report(address, snapshot)
    return len(offered)


async def test_the_report_has_a_row_for_each_task(api):
    await api.join("north", 5)
    run = await api.start(await api.save_job(JOB + "retry: {attempts: 1}\n"))
    assert await finish(api, fail=1) == 5
    answer = await api.get(f"/runs/{run}/report.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert f"run-{run}.csv" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [row["status"] for row in rows] == ["failed", *["succeeded"] * 4]
    assert rows[0]["failure_code"] == "device_refused"
    assert "it said" in rows[0]["failure"]
    assert json.loads(rows[1]["result"]) == {"n": 1}
    lines = (await api.get(f"/runs/{run}/report.ndjson")).text.splitlines()
    assert [json.loads(line)["target"] for line in lines] == [row["target"] for row in rows]
    assert (await api.get("/runs/nothing/report.csv")).status_code == 404


def read_events(blocks):
    """Event blocks as (name, data, id); comments left out."""
    for block in blocks:
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
        if "event" in fields:
            yield fields["event"], json.loads(fields["data"]), fields.get("id")


class Listening:
    """A stream read in the background. ASGI in this process ends it only when it is closed."""

    def __init__(self, api, caller, run, last_event=None):
        self._stream = api.services.feeds.follow(caller, run, last_event)
        self._text = ""
        self.events = []

    async def until(self, name, accept=lambda data: True):
        """The first event of that name that is as wanted."""
        while True:
            for position, (found, data, number) in enumerate(self.events):
                if found == name and accept(data):
                    del self.events[: position + 1]
                    return data, number
            async with asyncio.timeout(10):
                self._text += (await anext(self._body)).decode()
            *blocks, self._text = self._text.split("\n\n")
            self.events.extend(read_events(blocks))

    async def __aenter__(self):
        self._body = await self._stream
        return self

    async def __aexit__(self, *_):
        await self._body.aclose()


async def caller_of(api):
    from cloud.coordinator.access import authenticate
    from tests.integration.api.conftest import NOW, TOKEN

    return await api.database.read(authenticate, TOKEN, NOW)


async def test_who_follows_a_run_sees_it_and_every_task_that_changes(api):
    await api.join("north", 3)
    run = await api.start(await api.save_job())
    async with Listening(api, await caller_of(api), run) as listening:
        now, _ = await listening.until("run")
        assert Run.model_validate(now).status == "running"
        assert await finish(api) == 3
        last: dict[str, str] = {}
        while list(last.values()) != ["succeeded"] * 3:  # how many come at once is up to the clock
            tasks, number = await listening.until("tasks")
            last |= {task.id: task.status for task in map(Task.model_validate, tasks)}
        ended, _ = await listening.until("run", lambda found: found["counts"]["succeeded"] == 3)
        assert ended["progress"] == 100
    async with Listening(api, await caller_of(api), run, number) as again:
        await again.until("reset")


async def test_who_comes_back_is_told_what_was_missed(api):
    await api.join("north", 3)
    run = await api.start(await api.save_job())
    caller = await caller_of(api)
    async with Listening(api, caller, run) as stays, Listening(api, caller, run) as leaves:
        await stays.until("run")
        _, number = await leaves.until("run")
        await leaves.__aexit__()
        await finish(api)
        await stays.until("tasks")
        async with Listening(api, caller, run, number) as back:
            tasks, _ = await back.until("tasks")
            assert len(tasks) == 3


async def test_streams_are_counted_and_end_when_the_service_stops(api):
    await api.join("north", 1)
    run = await api.start(await api.save_job())
    caller = await caller_of(api)
    async with (
        Listening(api, caller, run) as first,
        Listening(api, caller, run) as second,
        Listening(api, caller, run) as third,
    ):
        for one in (first, second, third):
            await one.until("run")
        answer = await api.get("/events", params={"run": run})
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        api.services.feeds.close()
        for one in (first, second, third):
            async with asyncio.timeout(10):
                assert [block async for block in one._body if b"event" in block] == []


async def test_a_run_that_is_not_there_has_no_events(api):
    answer = await api.get("/events", params={"run": "nothing"})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.row("A1")
async def test_a_job_is_copied_over_http(api):
    await api.save_job("name: 泵\nid: pumps\nsteps: [{uses: flow.log, with: {text: hi}}]\n")
    made = await api.post("/jobs/pumps/duplicate", json={"name": "Bombas"})
    assert made.status_code == 201
    assert made.headers["location"] == "/api/v1/jobs/bombas"
    assert made.headers["etag"] == '"1"'
    assert (await api.post("/jobs/pumps/duplicate")).json()["name"] == "泵 (copy)"
    again = await api.post("/jobs/pumps/duplicate", json={"id": "bombas"})
    assert (again.status_code, again.json()["code"]) == (409, "exists")
    for wrong in ("a\u0000b", "", "two\nlines"):
        assert (await api.post("/jobs/pumps/duplicate", json={"name": wrong})).status_code == 422
    assert (await api.post("/jobs/nobody/duplicate")).status_code == 404
