"""Exit codes: a script can tell what happened without reading a word."""

import pytest

from contract.http.problems import Problem, ProblemItem
from contract.lifecycle import RunStatus
from roundsman._sync import transport
from tests.integration.cli.conftest import Cli
from tests.kit.fake_api import RUN_ID, FakeApi, a_run

pytestmark = pytest.mark.row("F2")
JOB = "name: pumps\nsteps:\n  - uses: firmware.confirm\n"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "pause", lambda seconds: None)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("invalid", 2),
        ("not_authenticated", 4),
        ("not_permitted", 4),
        ("not_found", 5),
        ("run_in_flight", 6),
        ("changed", 6),
        ("internal", 7),
        ("unavailable", 7),
    ],
)
def test_a_problem_ends_with_the_code_of_its_kind(api: FakeApi, cli: Cli, code, expected):
    api.problem(f"GET /runs/{RUN_ID}", code, detail="the case", help="do this")
    said = cli("runs", "get", RUN_ID)
    assert said.code == expected
    assert said.out == ""
    assert "the case" in said.err
    hint = "Set ROUNDSMAN_TOKEN" if code == "not_authenticated" else "do this"
    assert f"Try: {hint}" in said.err


def test_too_many_requests_end_with_10_once_tries_are_used_up(api: FakeApi, cli: Cli):
    api.on("GET /jobs", Problem(title="Slow down", status=429, code="rate_limited"))
    assert cli("jobs", "list").code == 10
    assert len(api.asked) == 5


def test_nobody_at_the_address_ends_with_7_and_says_what_to_try(api: FakeApi, cli: Cli):
    said = cli("--url", "http://127.0.0.1:9", "jobs", "list")
    assert said.code == 7
    assert "http://127.0.0.1:9" in said.err
    assert "Try: Is it running?" in said.err


def test_something_else_at_the_address_is_named_as_such(api: FakeApi, cli: Cli):
    from tests.kit.fake_api import Raw

    api.on("GET /jobs", Raw(b"<html>It works!</html>", "text/html"))
    said = cli("jobs", "list")
    assert said.code == 7
    assert "is it Roundsman" in said.err


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (RunStatus.SUCCEEDED, 0),
        (RunStatus.PARTIALLY_SUCCEEDED, 3),
        (RunStatus.FAILED, 3),
        (RunStatus.CANCELLED, 9),
        (RunStatus.REPLACED, 9),
    ],
)
def test_waiting_ends_with_what_became_of_the_run(api: FakeApi, cli: Cli, status, expected):
    api.on(f"GET /runs/{RUN_ID}", a_run(), a_run(status))
    assert cli("runs", "wait", RUN_ID, "--timeout", "20s").code == expected


def test_a_wait_that_is_over_too_early_ends_with_8(api: FakeApi, cli: Cli):
    api.on(f"GET /runs/{RUN_ID}", a_run())
    said = cli("runs", "wait", RUN_ID, "--timeout", "10ms")
    assert said.code == 8
    assert f"run {RUN_ID} is still running" in said.err


def test_waiting_for_a_status_ends_well_once_it_is_there(api: FakeApi, cli: Cli):
    api.on(f"GET /runs/{RUN_ID}", a_run(RunStatus.SCHEDULED), a_run())
    assert cli("runs", "wait", RUN_ID, "--for", "running", "--timeout", "20s").code == 0


def test_waiting_for_a_status_that_can_no_longer_come_ends_with_3(api: FakeApi, cli: Cli):
    api.on(f"GET /runs/{RUN_ID}", a_run(RunStatus.SUCCEEDED))
    assert cli("runs", "wait", RUN_ID, "--for", "paused", "--timeout", "20s").code == 3


@pytest.mark.parametrize(
    "words",
    [
        ("jobs", "frobnicate"),
        ("frobnicate",),
        ("jobs", "get"),
        ("jobs", "list", "-o", "xml"),
        ("runs", "wait", RUN_ID, "--timeout", "soon"),
        ("runs", "wait", RUN_ID),
        ("runs", "wait", RUN_ID, "--for", "tuesday", "--timeout", "20s"),
        ("jobs", "create", "-f", "no-such-file.yaml"),
        ("--url", "localhost:8080", "jobs", "list"),
        ("--server", "lab", "jobs", "list"),
    ],
)
def test_what_is_typed_wrong_ends_with_2(api: FakeApi, cli: Cli, words):
    said = cli(*words)
    assert said.code == 2
    assert said.err
    assert api.asked == []


def test_errors_of_a_document_name_the_users_own_file_line_and_key(api, cli: Cli, tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text(JOB)
    api.problem(
        "POST /jobs",
        "document_invalid",
        errors=[ProblemItem(message="no such artifact", key="steps[0].with", line=3, column=5)],
    )
    said = cli("jobs", "create", "-f", str(job))
    assert said.code == 2
    assert said.err == f"{job}:3:5: steps[0].with: no such artifact\n"


def test_a_document_that_is_wrong_is_never_sent(api: FakeApi, cli: Cli, tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text("name: pumps\nstepz: []\nsteps:\n  - uses: firmware.conform\n")
    said = cli("jobs", "create", "-f", str(job))
    assert said.code == 2
    assert f"{job}:2:1: stepz: unknown key `stepz`; did you mean `steps`?" in said.err
    assert api.asked == []


def test_a_step_that_does_not_exist_is_named_with_its_line(api: FakeApi, cli: Cli, tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text("name: pumps\nsteps:\n  - uses: firmware.conform\n")
    said = cli("jobs", "create", "-f", str(job))
    assert said.code == 2
    assert said.err.startswith(f"{job}:3:11: steps[0].uses: `firmware.conform` is no step")
    assert api.asked == []


def test_programs_get_the_problem_document_on_stderr(api: FakeApi, cli: Cli):
    api.problem(f"POST /runs/{RUN_ID}/cancel", "run_ended", run=RUN_ID)
    said = cli("runs", "cancel", RUN_ID, "-o", "json")
    assert said.code == 6
    assert Problem.model_validate_json(said.err).code == "run_ended"


def test_a_run_in_flight_is_named_so_that_one_can_look(api: FakeApi, cli: Cli):
    from contract.http.jobs import Job
    from tests.kit.fake_api import NOON

    api.on("GET /jobs/pumps", Job(id="pumps", name="p", created_at=NOON, updated_at=NOON))
    api.problem("POST /jobs/pumps/runs", "run_in_flight", run=RUN_ID)
    said = cli("jobs", "run", "pumps")
    assert said.code == 6
    assert f"roundsman runs get {RUN_ID}" in said.err


def test_places_that_the_service_names_by_key_alone_get_their_line(api, cli: Cli, tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text("name: pumps\niteration:\n  delay: 5s\nsteps:\n  - uses: firmware.confirm\n")
    api.problem(
        "POST /jobs",
        "not_performed",
        errors=[
            ProblemItem(message="not yet", key="iteration.delay"),
            ProblemItem(message="never", key="steps[0].uses"),
        ],
    )
    said = cli("jobs", "create", "-f", str(job))
    assert said.err.splitlines() == [
        f"{job}:3:10: iteration.delay: not yet",
        f"{job}:5:11: steps[0].uses: never",
    ]
