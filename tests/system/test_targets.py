"""Files become rows, rows become tasks on the central gateway; secrets stay secret throughout."""

from datetime import timedelta

import pytest

from contract.http.targets import NewTable
from contract.lifecycle import RunStatus
from tests.kit.rig import Rig
from tests.system.conftest import MakeRig

SECRET = "hunter2-and-more"
ROWS = 100_000


@pytest.mark.row("A8")
@pytest.mark.row("A11")
def test_an_import_survives_kill_9_of_the_cloud(rig: Rig):
    rig.client.tables.create(NewTable(id="sites"))
    lines = b"".join(b'site-%d,"%d, ""x"""\n' % (n, n) for n in range(ROWS))
    run = rig.client.tables.import_file("sites", b"site,note\n" + lines)
    rig.restart_cloud()
    ended = rig.client.runs.wait(run.id, timeout=timedelta(seconds=120))
    assert (ended.status, ended.results["imported"]) == (RunStatus.SUCCEEDED, ROWS)
    assert rig.client.tables.get("sites").rows == ROWS
    found = list(rig.client.tables.rows("sites", query='site:"site-99999"'))
    assert [row.values["note"] for row in found] == ['99999, "x"']


@pytest.mark.row("A2")
@pytest.mark.row("A13")
@pytest.mark.row("C6")
def test_rows_run_on_the_central_gateway_with_a_secret_nobody_sees(make_rig: MakeRig):
    rig = make_rig(central=True)
    cells = ["berlin", '{"$ne": ""}', "{{ 7*7 }}"]
    rig.client.tables.create(NewTable(id="sites"))
    rig.client.tables.add_rows("sites", [{"site": cell} for cell in cells])
    rig.client.secrets.set("api_key", SECRET)
    text = "{{ target.site }} with {{ secrets.api_key }}"
    document = {
        "name": "rows",
        "targets": {"resource": "row", "table": "{{ ctx.table }}"},
        "context": {"table": "sites"},
        "steps": [{"id": "say", "uses": "flow.log", "with": {"text": text}}],
    }
    run = rig.start(document)
    ended = rig.finish(run)
    assert ended.counts.succeeded == 3
    said = [line.text for line in rig.client.runs.log(run) if "with ***" in line.text]
    assert sorted(said) == sorted(f"{cell} with ***" for cell in cells)
    # What a step was given is shown as it was rendered; the job's own words stand beside it.
    tasks = [rig.client.tasks.get(task.id) for task in rig.client.runs.tasks(run)]
    given = {task.target: task.attempts[0].steps[0].input for task in tasks}
    assert sorted(str(step) for step in given.values()) == sorted(
        str({"text": f"{cell} with ***"}) for cell in cells
    )
    assert tasks[0].input.steps[0].parameters == {"text": text}
    shown = rig.cli("tasks", "get", tasks[0].id, "--inputs")
    assert "with ***" in shown.tail()
    kept = [path for path in rig.folder.rglob("*") if path.is_file()]
    assert not [path for path in kept if SECRET.encode() in path.read_bytes()]


@pytest.mark.row("A3")
def test_people_ask_the_command_line_before_they_start(rig: Rig):
    made = rig.cli("groups", "create", "odd", "--query", "typ:pump")
    assert "did you mean" in made.tail()
    made = rig.cli("tables", "create", "sites", "--column", "site:text", "--column", "size:number")
    assert "size=number" in made.tail()
    rig.cli("tables", "add", "sites", "site=berlin", "size=3")
    file = rig.folder / "sites.csv"
    file.write_text("site,size\nparis,4\nrome,many\n")
    imported = rig.cli("tables", "import", "sites", "-f", file)
    assert "`many` is no number" in imported.tail()
    rows = rig.cli("tables", "rows", "sites", "-q", "size>3")
    assert "site=paris" in rows.tail()
    job = rig.folder / "job.yaml"
    job.write_text(
        "name: rows\ntargets: {resource: row, table: sites, query: 'size>3'}\n"
        "steps: [{uses: flow.log, with: {text: x}}]\n"
    )
    preview = rig.cli("jobs", "preview", "-f", job)
    assert "targets\t1" in preview.tail()
