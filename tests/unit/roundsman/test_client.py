"""The client against a scripted transport: retries, pages, errors; no network."""

import uuid
from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest

from contract.http.problems import Problem
from contract.lifecycle import RunStatus
from roundsman import (
    AsyncRoundsman,
    NotFound,
    RateLimited,
    Roundsman,
    ServerError,
    Timeout,
    TransportError,
)
from roundsman._async import transport as async_transport
from roundsman._async.run_ids import new_run_id
from roundsman._sync import runs as sync_runs
from roundsman._sync import transport as sync_transport
from roundsman._sync.events import read_events
from tests.kit.fake_api import RUN_ID, a_run, a_task, events

Answer = httpx.Response | Exception


class Script:
    """Answers in turn, the last one for good; an exception is raised instead."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the client would have waited; it waits no longer than a test wants."""
    waited: list[float] = []

    async def pause(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(sync_transport, "pause", waited.append)
    monkeypatch.setattr(sync_runs, "pause", waited.append)
    monkeypatch.setattr(async_transport, "pause", pause)
    return waited


def client(script: Callable[[httpx.Request], httpx.Response]) -> Roundsman:
    return Roundsman("http://cloud/", "t0k3n", transport=httpx.MockTransport(script))


def refusal(status: int, **headers: str) -> httpx.Response:
    problem = Problem(title="No", status=status, code="no")
    return httpx.Response(status, content=problem.model_dump_json(), headers=headers)


def found(run: object = None) -> httpx.Response:
    return httpx.Response(200, content=(run or a_run()).model_dump_json())  # type: ignore[attr-defined]


def test_a_read_is_tried_again_until_somebody_answers(pauses):
    script = Script(httpx.ReadError("cut"), refusal(503), found())
    with client(script) as roundsman:
        assert roundsman.runs.get(RUN_ID) == a_run()
    assert len(script.requests) == 3
    assert len(pauses) == 2
    assert script.requests[0].headers["authorization"] == "Bearer t0k3n"


def test_it_gives_up_after_its_tries_and_says_where_nobody_was(pauses):
    script = Script(httpx.ConnectError("refused"))
    with client(script) as roundsman, pytest.raises(TransportError, match="http://cloud"):
        roundsman.runs.get(RUN_ID)
    assert len(script.requests) == 5


def test_what_must_not_happen_twice_is_not_sent_twice_when_the_line_is_cut(pauses):
    script = Script(httpx.ReadError("cut"))
    with client(script) as roundsman, pytest.raises(TransportError):
        roundsman.gateways.create("berlin-1")
    assert len(script.requests) == 1


def test_what_never_left_is_sent_again_whatever_it_is(pauses):
    token = httpx.Response(201, json={"id": "berlin-1", "token": "x"})
    script = Script(httpx.ConnectError("refused"), token)
    with client(script) as roundsman:
        assert roundsman.gateways.create("berlin-1").token == "x"


def test_a_repeated_start_names_the_same_run(pauses):
    script = Script(httpx.ReadError("cut"), found())
    with client(script) as roundsman:
        roundsman.jobs.run("pumps", context={"a": 1})
    first, second = script.requests
    assert first.content == second.content
    assert b'"id":"' in first.content


def test_an_upload_that_was_cut_begins_again_at_its_beginning(pauses):
    pushed = httpx.Response(
        201, json={"name": "i", "sha256": "a" * 64, "size": 3, "created_at": "2026-07-30T12:00:00Z"}
    )
    script = Script(httpx.WriteError("cut"), pushed)
    told: list[tuple[int, int]] = []
    with client(script) as roundsman:
        roundsman.artifacts.push("i", b"abc", progress=lambda *now: told.append(now))
    assert [request.content for request in script.requests] == [b"abc", b"abc"]
    assert script.requests[1].headers["content-length"] == "3"
    assert told == [(3, 3), (3, 3)]


def test_it_comes_back_when_it_was_told_to(pauses):
    script = Script(refusal(429, **{"retry-after": "7"}), found())
    with client(script) as roundsman:
        roundsman.runs.get(RUN_ID)
    assert pauses == [7.0]


def test_a_limit_that_stays_is_an_error_that_says_how_long(pauses):
    script = Script(refusal(429, **{"retry-after": "7"}))
    with client(script) as roundsman, pytest.raises(RateLimited) as raised:
        roundsman.runs.get(RUN_ID)
    assert raised.value.retry_after == 7.0


def test_an_error_without_a_problem_document_is_still_an_error(pauses):
    script = Script(httpx.Response(404, text="nginx"))
    with client(script) as roundsman, pytest.raises(NotFound, match="404 without saying why"):
        roundsman.runs.get(RUN_ID)


def test_a_wait_ends_when_the_run_does(pauses):
    script = Script(found(), found(), found(a_run(RunStatus.FAILED)))
    with client(script) as roundsman:
        assert roundsman.runs.wait(RUN_ID, timeout=timedelta(minutes=1)).status is RunStatus.FAILED


def test_a_wait_that_may_not_wait_raises_with_the_run():
    with client(Script(found())) as roundsman, pytest.raises(Timeout) as raised:
        roundsman.runs.wait(RUN_ID, timeout=timedelta())
    assert raised.value.run == a_run()


class Service:
    """Answers by path; the event streams one after the other."""

    def __init__(self, runs: list[RunStatus], *streams: Answer) -> None:
        self.runs = runs
        self.streams = list(streams)
        self.opened = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            self.opened += 1
            answer = self.streams.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        if request.url.path.endswith("/tasks"):
            return httpx.Response(200, json={"items": [a_task(0).model_dump(mode="json")]})
        status = self.runs.pop(0) if len(self.runs) > 1 else self.runs[0]
        return found(a_run(status))


def stream(*changes: object) -> httpx.Response:
    return httpx.Response(200, content=events(*changes).content)  # type: ignore[arg-type]


def test_events_go_on_by_themselves_after_the_stream_was_cut(pauses):
    running, ended = RunStatus.RUNNING, RunStatus.SUCCEEDED
    service = Service([running, running, running, ended], stream([a_task(1)]), stream(a_run(ended)))
    with client(service) as roundsman:
        seen = list(roundsman.runs.events(RUN_ID))
    assert service.opened == 2
    assert [a_task(1)] in seen
    assert seen[-1] == a_run(ended)


def test_events_are_looked_for_where_there_is_no_stream(pauses):
    service = Service(
        [RunStatus.RUNNING, RunStatus.SUCCEEDED], httpx.ReadError("cut"), refusal(503)
    )
    with client(service) as roundsman:
        seen = list(roundsman.runs.events(RUN_ID))
    assert seen == [[a_task(0)], a_run(), [a_task(0)], a_run(RunStatus.SUCCEEDED)]


def test_events_end_with_an_error_when_nobody_answers_for_long(pauses):
    script = Script(refusal(503))
    with client(script) as roundsman, pytest.raises(ServerError):
        list(roundsman.runs.events(RUN_ID))


def test_events_of_a_run_that_does_not_exist_are_not_waited_for(pauses):
    with client(Script(refusal(404))) as roundsman, pytest.raises(NotFound):
        list(roundsman.runs.events(RUN_ID))


def test_an_event_may_have_several_lines_and_half_an_event_is_none():
    lines = [": hi", "", "event: run", "data: a", "data:b", "", "event: run", "data: cut"]
    assert list(read_events(iter(lines))) == [("run", "a\nb")]


async def test_the_asynchronous_client_does_the_same(pauses):
    first = {"items": [a_run().model_dump(mode="json")], "next_cursor": "more"}
    second = {"items": [a_run().model_dump(mode="json")]}
    script = Script(
        httpx.ReadError("cut"), httpx.Response(200, json=first), httpx.Response(200, json=second)
    )
    transport = httpx.MockTransport(script)
    async with AsyncRoundsman("http://cloud", transport=transport) as roundsman:
        assert [run.id async for run in roundsman.runs.list(job="pumps")] == [RUN_ID, RUN_ID]
    assert dict(script.requests[-1].url.params) == {"job": "pumps", "cursor": "more"}


def test_run_ids_are_version_7_and_never_twice():
    ids = [new_run_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert {uuid.UUID(each).version for each in ids} == {7}
    assert {uuid.UUID(each).variant for each in ids} == {uuid.RFC_4122}
    # Sorted as text, they come in the order of their milliseconds.
    prefixes = [each[:13] for each in ids]
    assert prefixes == sorted(prefixes)
