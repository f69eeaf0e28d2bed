"""Steps that send text messages and ask databases, which the gateway's operator has configured."""

import json
import sqlite3
from contextlib import closing
from urllib.parse import parse_qs

import psycopg
import pytest

from tests.kit.rig_site import smp
from tests.kit.waiting import wait_until
from tests.kit.web_server import WebServer, as_json


def site(rig, **more):
    made = rig.add_gateway("north", [smp("pump-1")], start=False)
    made.write_config({**made.settings, **more})
    made.start()
    rig.wait_for_devices(made)
    return made


def job(*steps, job="tell", **fields):
    return {"name": job, "id": job, "steps": list(steps), "retry": {"attempts": 1}, **fields}


def sms(step, to, text="Pump {{ target.id }} is {{ ctx.state }}", **fields):
    return {"id": step, "uses": "notify.sms", "with": {"to": to, "text": text}, **fields}


@pytest.mark.row("A12")
def test_text_messages_go_through_the_service_of_the_gateway(rig):
    def answer(asked):
        if "+49302" in asked.body.decode():
            return as_json({"error": "barred", "seen": asked.headers["X-Api-Key"]}, 422)
        return as_json({"queued": True}, 202)

    with WebServer(answer) as service:
        hook = {
            "url": f"{service.url}/messages",
            "headers": {"X-Api-Key": "hush-hush"},
            "token": "t-1",
            "body": {"messages": [{"to": "{to}", "body": "Plant: {text}"}], "from": "plant"},
        }
        site(rig, sms=hook)  # its address is an inner one: the operator's own, so it is allowed
        run = rig.start(
            job(
                sms("two", ["+4930123456", "+14155550100", "+4930123456"]),
                sms("shown", "{{ ctx.who }}", text="{{ ctx.state }}"),
                sms("barred", ["+4930123456", "+4930222222"], always=True),
                sms("nobody", "{{ ctx.nobody }}", always=True),
                context={"state": "{to}", "who": "+4930123456", "nobody": "030 123"},
            )
        )
        rig.finish(run, "failed")
        bodies = [json.loads(asked.body) for asked in service.asked]
    steps = rig.steps(run, "pump-1")
    assert steps["two"].result == {"sent": ["+4930123456", "+14155550100"], "failed": []}
    assert sorted(body["messages"][0]["to"] for body in bodies[:2]) == [
        "+14155550100",
        "+4930123456",
    ]
    assert {body["messages"][0]["body"] for body in bodies[:2]} == {"Plant: Pump pump-1 is {to}"}
    assert bodies[2] == {"messages": [{"to": "+4930123456", "body": "Plant: {to}"}],
                         "from": "plant"}  # fmt: skip
    first = service.asked[0]
    assert first.headers["Authorization"] == "Bearer t-1"
    assert len({asked.headers["Idempotency-Key"] for asked in service.asked}) == 5
    assert steps["barred"].failure.code == "sms_failed"
    assert steps["barred"].result["sent"] == ["+4930123456"]
    assert "422" in steps["barred"].failure.text
    assert "hush-hush" not in json.dumps(steps["barred"].model_dump(mode="json"))
    assert steps["nobody"].failure.code == "step_invalid"
    assert len(service.asked) == 5


@pytest.mark.row("A12")
def test_a_service_that_takes_forms_and_one_that_is_not_there(rig):
    with WebServer() as service:
        form = {"To": "{to}", "Body": "{text}"}
        made = site(rig, sms={"url": service.url, "encoding": "form", "body": form})
        run = rig.start(job(sms("one", "+4930123456", text="a & b")))
        rig.finish(run)
        (asked,) = service.asked
        assert parse_qs(asked.body.decode()) == {"To": ["+4930123456"], "Body": ["a & b"]}
    run = rig.start(job(sms("gone", "+4930123456", text="x"), job="gone"))
    rig.finish(run, "failed")
    assert rig.task(run, "pump-1").failure.code == "sms_failed"
    made.program.terminate()
    made.write_config(made.settings)
    made.start()
    made.wait_for_session()
    run = rig.start(job(sms("none", "+4930123456", text="x"), job="none"))
    rig.finish(run, "failed")
    assert "configure `sms`" in rig.task(run, "pump-1").failure.text


def ask(step, database, statement, *parameters, **more):
    asked = {"database": database, "statement": statement, "parameters": list(parameters)}
    return {"id": step, "uses": "sql.query", "with": {**asked, **more}}


@pytest.mark.row("A12", "B15")
def test_steps_ask_databases_and_act_on_what_they_find(make_rig, postgres_url, tmp_path):
    url = postgres_url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(url) as made:
        made.execute("CREATE TABLE orders (id int PRIMARY KEY, site text, open bool)")
        made.execute("INSERT INTO orders VALUES (1, 'berlin', true), (2, 'rome', true)")
    with closing(sqlite3.connect(tmp_path / "plant.db")) as file, file:
        file.execute("CREATE TABLE visits (id INTEGER PRIMARY KEY, orders TEXT)")
    databases = {
        "orders": {"url": url},
        "plant": {"url": f"sqlite:///{tmp_path / 'plant.db'}", "read_only": False},
    }
    central = {"enabled": True, "settings": {"databases": databases}}
    rig = make_rig(settings={"central_gateway": central})
    wait_until(lambda: rig.client.gateways.get("central").online, 30, "the central gateway")
    steps = [
        ask("find", "orders", "SELECT id FROM orders WHERE site = $1", "{{ ctx.site }}"),
        {
            "id": "each",
            "uses": "flow.for_each",
            "with": {
                "items": "{{ steps.find.result.rows }}",
                "step": {
                    "uses": "sql.query",
                    "with": {
                        "database": "plant",
                        "statement": "INSERT INTO visits (orders) VALUES ($1)",
                        "parameters": ["{{ item.id }}"],
                    },
                },
            },
        },
        {**ask("kept", "orders", "DELETE FROM orders"), "always": True},
        {**ask("nowhere", "order", "SELECT 1"), "always": True},
        {**ask("slow", "orders", "SELECT pg_sleep(60)", timeout="300ms"), "always": True},
    ]
    targets = {"resource": "gateway", "query": {"id": "central"}}
    document = job(*steps, targets=targets, context={"site": "x' OR true --"})
    run = rig.start(document)
    rig.finish(run, "failed")
    run = rig.client.jobs.run("tell", context={"site": "berlin"}).id
    rig.finish(run, "failed")

    (task,) = rig.tasks(run)
    found = {step.id: step for step in rig.client.tasks.get(task.id).attempts[0].steps}
    assert found["find"].result["rows"] == [{"id": 1}]
    assert found["each"].result == [{"columns": [], "rows": [], "row_count": 1, "truncated": False}]
    assert found["kept"].failure.code == "sql_failed"
    assert found["nowhere"].failure.code == "database_unknown"
    assert "0.3 s" in found["slow"].failure.text
    with closing(sqlite3.connect(tmp_path / "plant.db")) as file:
        assert file.execute("SELECT orders FROM visits").fetchall() == [("1",)]
    with psycopg.connect(url) as looking:
        assert looking.execute("SELECT count(*) FROM orders").fetchone() == (2,)
