"""Which run a program is in, from headers, payloads and the environment."""

import json

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import roundsman
from roundsman import CurrentRun, current_run, current_run_id, entered_run
from roundsman.current import run_of

pytestmark = pytest.mark.row("C14")
RUN = CurrentRun("run-1", "run-1-7", 2)


def test_outside_of_any_run_there_is_none():
    assert current_run() is None
    assert current_run_id() is None


def test_headers_and_payloads_name_the_run_while_the_block_lasts():
    stamp = {"run": "run-1", "task": "run-1-7", "attempt": "2"}
    headers = {"X-Roundsman-Run": "run-1", "X-Roundsman-Task": "run-1-7",
               "X-Roundsman-Attempt": "2", "Accept": "*/*"}  # fmt: skip
    for source in (
        headers,
        httpx.Headers(headers),
        {"roundsman": stamp, "value": 7},
        json.dumps({"roundsman": stamp}),
        json.dumps({"roundsman": stamp}).encode(),
        RUN.headers(),
    ):
        with entered_run(source) as entered:
            assert entered == current_run() == RUN
            assert current_run_id() == "run-1"
            with entered_run({"accept": "*/*"}) as same:
                assert same == RUN
        assert current_run() is None


def test_the_environment_names_it_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ROUNDSMAN_RUN", "run-1")
    monkeypatch.setenv("ROUNDSMAN_ATTEMPT", "x")
    assert current_run() == CurrentRun("run-1")


@given(st.one_of(st.text(), st.binary(), st.dictionaries(st.text(), st.text())))
def test_whatever_else_arrives_names_none_or_a_run_and_raises_nothing(source):
    found = run_of(source)
    assert found is None or found.id


def test_a_line_outside_of_a_run_is_dropped_and_inside_it_is_sent():
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(204)

    transport = httpx.MockTransport(answer)
    with roundsman.Roundsman("http://test", "t", transport=transport) as client:
        assert client.runs.add_log("nobody called") is False
        assert asked == []
        with entered_run(RUN.headers()):
            assert client.runs.add_log("called", level="ERROR", data={"n": 1}) is True
    (request,) = asked
    assert request.url.path == "/api/v1/runs/run-1/log"
    assert request.headers["x-roundsman-task"] == "run-1-7"
    assert json.loads(request.content) == {
        "text": "called", "level": "ERROR", "task": None, "data": {"n": 1}
    }  # fmt: skip
