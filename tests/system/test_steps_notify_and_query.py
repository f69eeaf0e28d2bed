"""Steps that send text messages and ask databases, which the gateway's operator has configured."""

import json
from urllib.parse import parse_qs

import pytest

from tests.kit.rig_site import smp
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
