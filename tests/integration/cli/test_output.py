"""What commands print: tabs in a pipe, JSON for programs, talk on stderr only."""

import json

from contract.http.fleet import Artifact, Device, Gateway, GatewayWithToken
from contract.http.jobs import Job
from contract.http.runs import Run
from contract.http.tasks import Attempt, Step, Task, TaskDetail
from contract.lifecycle import RunStatus, StepStatus, TaskStatus
from tests.integration.cli.conftest import Cli
from tests.kit.fake_api import A_FAILURE, NOON, RUN_ID, FakeApi, Raw, a_run, a_task, events

JOB = Job(
    id="pumps",
    name="Pumps",
    created_at=NOON,
    updated_at=NOON,
    document={"context": {"site": "berlin", "version": "1.0"}},
)
RUN_WORDS = ("0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa", "pumps", "running")


def test_a_list_in_a_pipe_is_tab_separated_with_full_ids_and_no_colour(api: FakeApi, cli: Cli):
    api.on("GET /runs", [a_run()])
    said = cli("runs", "list", "--status", "running")
    assert said.code == 0
    assert said.out.rstrip("\n").split("\t")[:3] == [*RUN_WORDS]
    assert "\x1b" not in said.out
    assert said.err == ""
    assert api.last("GET").query == {"status": "running"}
    assert api.last("GET").headers["authorization"] == "Bearer secret"


def test_a_list_asks_for_page_after_page(api: FakeApi, cli: Cli):
    first = {"items": [a_run().model_dump(mode="json")], "next_cursor": "more"}
    second = {"items": [a_run(RunStatus.FAILED).model_dump(mode="json")]}
    pages = [Raw(json.dumps(page).encode(), "application/json") for page in (first, second)]
    api.on("GET /runs", *pages)
    said = cli("runs", "list")
    assert [line.split("\t")[2] for line in said.out.splitlines()] == ["running", "failed"]
    assert api.last("GET").query == {"cursor": "more"}


def test_json_is_what_the_api_answers(api: FakeApi, cli: Cli):
    api.on("GET /runs", [a_run(), a_run()])
    api.on(f"GET /runs/{RUN_ID}", a_run())
    several = json.loads(cli("runs", "list", "-o", "json").out)
    assert [Run.model_validate(each) for each in several] == [a_run(), a_run()]
    one = cli("-o", "json", "runs", "get", RUN_ID).out
    assert Run.model_validate_json(one) == a_run()


def test_ndjson_is_one_object_a_line(api: FakeApi, cli: Cli):
    api.on(f"GET /runs/{RUN_ID}/tasks", [a_task(0), a_task(1)])
    lines = cli("runs", "tasks", RUN_ID, "-o", "ndjson").out.splitlines()
    assert [Task.model_validate_json(line) for line in lines] == [a_task(0), a_task(1)]


def test_control_characters_of_a_device_never_reach_the_terminal(api: FakeApi, cli: Cli):
    api.on("GET /devices", [Device(id="pump-1", gateway="g", type="a\x1b[2Jb\tc\nd")])
    assert cli("devices", "list").out.startswith("pump-1\ta [2Jb c d\tg\t")


def test_each_noun_lists_and_gets(api: FakeApi, cli: Cli):
    api.on("GET /jobs", [JOB])
    api.on("GET /jobs/pumps", JOB)
    api.on("GET /devices/pump-1", Device(id="pump-1", gateway="g", state={"version": "1.0"}))
    api.on("GET /gateways", [Gateway(id="berlin-1", online=True)])
    api.on("GET /artifacts", [Artifact(name="i", sha256="a" * 64, size=3, created_at=NOON)])
    assert cli("jobs", "list").out.startswith("pumps\tPumps\t")
    assert "revision\t1\n" in cli("jobs", "get", "pumps").out
    assert "state\tversion=1.0\n" in cli("devices", "get", "pump-1").out
    assert cli("gateways", "list").out.startswith("berlin-1\t\tyes\tworking\tno\t")
    assert f"\t{'a' * 64}\t" in cli("artifacts", "list").out


def test_a_task_shows_why_it_failed_and_its_steps(api: FakeApi, cli: Cli):
    step = Step(id="upload", uses="firmware.upload", status=StepStatus.FAILED, failure=A_FAILURE)
    attempt = Attempt(attempt=1, status=TaskStatus.FAILED, gateway="g", steps=[step])
    task = a_task(3, TaskStatus.FAILED, failure=A_FAILURE).model_dump()
    api.on(f"GET /tasks/{RUN_ID}-3", TaskDetail.model_validate({**task, "attempts": [attempt]}))
    said = cli("tasks", "get", f"{RUN_ID}-3")
    assert "it means\tThe device refused the firmware image.\n" in said.out
    assert "upload\tfirmware.upload\tfailed\t" in said.out


def test_a_gateways_page_says_what_it_lost_by_class(api: FakeApi, cli: Cli):
    lost = {"states": 3, "logs": 41}
    api.on("GET /gateways/berlin-1", Gateway(id="berlin-1", dropped=lost, health={"alarm": "x"}))
    said = cli("gateways", "get", "berlin-1").out
    assert "DROPPED LINES\t41 logs, 3 states\n" in said
    assert "ALARM\tx\n" in said


def test_a_gateways_token_can_be_kept_in_a_file_by_a_pipe(api: FakeApi, cli: Cli):
    api.on("POST /gateways", GatewayWithToken(id="berlin-1", token="t0k3n"))
    said = cli("gateways", "create", "berlin-1")
    assert said.out == "t0k3n\n"
    assert "never again" in said.err


def test_an_artifact_is_streamed_whole(api: FakeApi, cli: Cli, tmp_path):
    image = tmp_path / "pump.bin"
    image.write_bytes(bytes(range(256)) * 4000)
    api.on("POST /artifacts", Artifact(name="pump", sha256="a" * 64, size=1024000, created_at=NOON))
    said = cli("artifacts", "push", str(image), "--name", "pump", "--kind", "image")
    assert said.code == 0
    asked = api.last("POST")
    assert asked.query == {"name": "pump", "kind": "image"}
    assert asked.body == image.read_bytes()


def test_single_values_of_a_context_go_over_the_jobs_own(api: FakeApi, cli: Cli):
    api.on("GET /jobs/pumps", JOB)
    api.on("POST /jobs/pumps/runs", a_run())
    said = cli("jobs", "run", "pumps", "--context", "version=2.4.1", "-c", "count=3")
    assert said.code == 0
    sent = json.loads(api.last("POST").body)
    assert sent["context"] == {"site": "berlin", "version": "2.4.1", "count": 3}
    assert sent["id"][14] == "7"


def test_a_context_file_replaces_the_whole(api: FakeApi, cli: Cli, tmp_path):
    api.on("GET /jobs/pumps", JOB)
    api.on("POST /jobs/pumps/runs", a_run())
    file = tmp_path / "context.yaml"
    file.write_text("site: paris\n")
    cli("jobs", "run", "pumps", "--context-file", str(file))
    assert json.loads(api.last("POST").body)["context"] == {"site": "paris"}


def test_a_report_is_written_as_it_came(api: FakeApi, cli: Cli, tmp_path):
    csv = b"device,status\r\npump-1,succeeded\r\n"
    api.on(f"GET /runs/{RUN_ID}/report.csv", Raw(csv, "text/csv"))
    file = tmp_path / "out.csv"
    assert cli("runs", "report", RUN_ID, "-f", str(file)).code == 0
    assert file.read_bytes() == csv
    assert cli("runs", "report", RUN_ID).out == csv.decode()


def test_watching_in_a_pipe_gives_one_event_a_line_and_the_runs_code(api: FakeApi, cli: Cli):
    ended = a_run(RunStatus.PARTIALLY_SUCCEEDED)
    done = [a_task(0, TaskStatus.SUCCEEDED), a_task(1, TaskStatus.FAILED, failure=A_FAILURE)]
    api.on("GET /events", events([a_task(1, progress=50)], ended))
    api.on(f"GET /runs/{RUN_ID}", a_run(), ended)
    api.on(f"GET /runs/{RUN_ID}/tasks", [a_task(0), a_task(1)], done)
    said = cli("runs", "watch", RUN_ID)
    assert said.code == 3
    seen = [json.loads(line) for line in said.out.splitlines()]
    assert [each["event"] for each in seen] == [
        "task",
        "task",
        "run",
        "task",
        "task",
        "task",
        "run",
    ]
    assert seen[-1]["data"]["status"] == "partially_succeeded"


def test_watching_goes_on_by_looking_where_there_is_no_stream(api, cli: Cli, monkeypatch):
    from roundsman._sync import runs

    monkeypatch.setattr(runs, "pause", lambda seconds: None)
    api.problem("GET /events", "unavailable")
    api.on(f"GET /runs/{RUN_ID}", a_run(), a_run(RunStatus.SUCCEEDED))
    api.on(f"GET /runs/{RUN_ID}/tasks", [a_task(0)])
    said = cli("runs", "watch", RUN_ID)
    assert said.code == 0
    assert json.loads(said.out.splitlines()[-1])["data"]["status"] == "succeeded"


def test_the_doctor_says_what_is_missing(api: FakeApi, cli: Cli):
    said = cli("doctor")
    assert said.code == 7
    assert "service   not there" in said.out
    api.on("GET /version", Raw(b'{"version": "0.1.0"}', "application/json"))
    api.on("GET /readyz", Raw(b"{}", "application/json"))
    api.problem("GET /gateways", "not_authenticated")
    assert cli("doctor").code == 4
    api.on("GET /gateways", [])
    well = cli("doctor")
    assert well.code == 0
    assert "access    yes" in well.out


def test_a_job_is_saved_over_the_revision_that_was_read(api: FakeApi, cli: Cli, tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text("name: Pumps\nsteps:\n  - uses: firmware.confirm\n")
    api.on("GET /jobs/pumps", JOB.model_copy(update={"revision": 4}))
    api.on("PUT /jobs/pumps", JOB.model_copy(update={"revision": 5}))
    said = cli("jobs", "save", "-f", str(file))
    assert "revision\t5\n" in said.out
    assert api.last("PUT").headers["if-match"] == '"4"'
    assert api.last("PUT").body == file.read_bytes()
