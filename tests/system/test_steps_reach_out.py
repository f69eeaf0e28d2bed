"""Steps that reach beyond the device: web services, brokers, mail, loops, and the cloud itself."""

import json
import time
import urllib.request

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MessageHandler

from contract.lifecycle import TaskStatus
from contract.steps import VERBS
from tests.kit.mqtt_client import MqttClient
from tests.kit.ports import free_port
from tests.kit.rig_site import mqtt, smp
from tests.kit.waiting import wait_until
from tests.kit.web_server import Answer, WebServer, as_json

ALLOWED = {"http": {"allow": ["127.0.0.0/8"]}}


def site(rig, *devices, **more):
    """A gateway whose steps may reach loopback."""
    made = rig.add_gateway("north", devices or [smp("pump-1")], start=False)
    made.write_config({**made.settings, **ALLOWED, **more})
    made.start()
    rig.wait_for_devices(made)
    return made


def job(*steps, job="reach", **fields):
    return {"name": job, "id": job, "steps": list(steps), "retry": {"attempts": 1}, **fields}


def request(url, step="ask", **parameters):
    return {"id": step, "uses": "http.request", "with": {"url": url, **parameters}}


def result(rig, run, step, device="pump-1"):
    return rig.steps(run, device)[step].result


@pytest.mark.row("C14", "A12")
def test_a_request_says_where_it_comes_from_and_its_answer_is_the_result(rig):
    site(rig)
    with WebServer(lambda asked: as_json({"level": 7})) as service:
        post = request(f"{service.url}/tanks", method="POST", query={"a": "b c"}, json={"x": 1})
        run = rig.start(job(post))
        rig.finish(run)
        found = result(rig, run, "ask")
        assert (found["status"], found["body"], found["truncated"]) == (200, {"level": 7}, False)
        (asked,) = service.asked
        assert (asked.path, json.loads(asked.body)) == ("/tanks?a=b+c", {"x": 1})
        task = rig.task(run, "pump-1")
        assert asked.headers["X-Roundsman-Run"] == run
        assert asked.headers["X-Roundsman-Task"] == task.id
        assert asked.headers["X-Roundsman-Attempt"] == "1"
        assert len(asked.headers["Idempotency-Key"]) == 32


@pytest.mark.row("A12")
def test_requests_are_bounded_and_errors_are_failures(rig):
    site(rig)

    def answer(asked):
        if asked.path == "/large":
            return Answer(200, b"x" * 5000)
        if asked.path == "/away":
            return Answer(302, b"", {"Location": "/large"})
        if asked.path == "/slow":
            return Answer(200, b"late", after_s=3)
        return as_json({"why": "no"}, 418)

    with WebServer(answer) as service:
        steps = [
            request(f"{service.url}/large", "large", max_bytes=100),
            request(f"{service.url}/away", "stays"),
            request(f"{service.url}/away", "goes", redirects=1),
            request(f"{service.url}/teapot", "taken", accept=[418]),
            {**request(f"{service.url}/slow", "slow", timeout="500ms"), "always": True},
            {**request(f"{service.url}/teapot", "refused"), "always": True},
        ]
        run = rig.start(job(*steps))
        rig.finish(run, "failed")
    found = rig.steps(run, "pump-1")
    assert (len(found["large"].result["body"]), found["large"].result["truncated"]) == (100, True)
    assert found["stays"].result["status"] == 302
    assert found["goes"].result["status"] == 200
    assert found["taken"].result["body"] == {"why": "no"}
    assert found["slow"].failure.code == "http_failed"
    assert (found["refused"].failure.code, found["refused"].result["status"]) == (
        "http_failed",
        418,
    )


@pytest.mark.row("A12")
def test_inner_addresses_are_refused_unless_they_are_allowed(rig):
    rig.add_gateway("north", [smp("pump-1")])
    with WebServer() as service:
        port = service.url.rpartition(":")[2]
        for number, host in enumerate(
            [
                "127.0.0.1",
                "localhost",
                "[::1]",
                "2130706433",
                "[::ffff:127.0.0.1]",
                "169.254.169.254",
            ]
        ):
            run = rig.start(job(request(f"http://{host}:{port}/"), job=f"reach-{number}"))
            rig.finish(run, "failed")
            assert rig.task(run, "pump-1").failure.code == "address_refused", host
        assert service.asked == []


@pytest.mark.row("A12", "C14")
def test_messages_are_published_and_awaited(rig):
    made = site(rig, mqtt("door-1"))
    ask_door = {
        "id": "ask",
        "uses": "mqtt.await",
        "with": {
            "topic": "doors/+/answer",
            "match": "payload.to == task.id",
            "timeout": "20s",
            "publish": {"topic": "doors/ask", "payload": {"q": 1}, "stamp": True},
        },
    }
    never = {"id": "never", "uses": "mqtt.await", "with": {"topic": "none", "timeout": "300ms"}}
    with MqttClient("panel", made.local_port) as panel:
        panel.subscribe("doors/ask")
        run = rig.start(job(ask_door, never))
        wait_until(lambda: panel.messages, 20, "the question")
        question = json.loads(panel.messages[0][1])
        task = rig.task(run, "door-1")
        assert question["roundsman"] == {"run": run, "task": task.id, "attempt": "1"}
        for answer in ({"to": "another"}, "{", {"to": task.id, "open": True}):
            panel.publish("doors/7/answer", json.dumps(answer).encode())
        rig.finish(run, "failed")
    found = rig.steps(run, "door-1")
    assert found["ask"].result["payload"] == {"to": task.id, "open": True}
    assert found["never"].failure.code == "step_timed_out"


@pytest.mark.row("A12")
def test_mail_reaches_a_real_server(rig):
    received = []

    class Keeper(MessageHandler):
        def handle_message(self, message):
            received.append(message)

    controller = Controller(Keeper(), hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        port = controller.port
        smtp = {"host": "127.0.0.1", "port": port, "sender": "jobs@example.com", "tls": "none"}
        site(rig, smtp=smtp)
        mail = {"to": ["a@example.com"], "subject": "Pump {{ target.id }}", "text": "It is done."}
        broken = {**mail, "subject": "{{ ctx.bad }}"}
        run = rig.start(
            job(
                {"id": "mail", "uses": "notify.email", "with": mail},
                {"id": "smuggled", "uses": "notify.email", "with": broken},
                context={"bad": "x\r\nBcc: c@example.com"},
            )
        )
        rig.finish(run, "failed")
    finally:
        controller.stop()
    (message,) = received
    assert (message["subject"], message["to"]) == ("Pump pump-1", "a@example.com")
    assert message.get_payload().strip() == "It is done."
    assert rig.steps(run, "pump-1")["smuggled"].failure.code == "mail_failed"


@pytest.mark.row("A12")
def test_the_step_library_is_published_with_its_schemas(rig):
    found = urllib.request.Request(
        f"{rig.url}/api/v1/steps", headers={"Authorization": f"Bearer {rig.token}"}
    )
    with urllib.request.urlopen(found, timeout=10) as answer:
        verbs = {verb["name"]: verb for verb in json.loads(answer.read())["items"]}
    assert set(verbs) == set(VERBS)
    assert verbs["http.request"]["parameters"]["properties"]["method"]["default"] == "GET"
    assert verbs["notify.email"]["after_restart"] == "ask"


def loop(step_id="loop", **parameters):
    return {"id": step_id, "uses": "flow.for_each", "with": parameters}


@pytest.mark.row("B9")
def test_a_loop_gives_results_in_the_order_of_its_items(rig):
    site(rig)
    at_once, most = [0], [0]

    def answer(asked):
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        number = int(asked.path[1:])
        time.sleep(0.3 - 0.05 * number)  # the later ones are faster
        at_once[0] -= 1
        return as_json({"n": number}) if number != 3 else as_json({}, 500)

    with WebServer(answer) as service:
        each = {"uses": "http.request", "with": {"url": service.url + "/{{ item }}"}}
        square = {"uses": "flow.set", "with": {"values": {"sum": "{{ carried + item }}"}}}
        run = rig.start(
            job(
                loop("kept", items=[0, 1, 2, 3, 4], step=each, mode="parallel", concurrency=3,
                     on_error="keep"),
                loop("sums", items="{{ ctx.numbers }}", step=square, carry=0, next="result.sum"),
                loop("none", items=[], step=square),
                loop("stopped", items=[0, 3, 4], step=each),
                context={"numbers": [1, 2, 3]},
            )
        )  # fmt: skip
        rig.finish(run, "failed")
        kept = result(rig, run, "kept")
        assert [r["body"]["n"] for n, r in enumerate(kept) if n != 3] == [0, 1, 2, 4]
        assert kept[3]["error"]["code"] == "http_failed"
        assert most[0] == 3
        assert [r["sum"] for r in result(rig, run, "sums")] == [1, 3, 6]
        assert result(rig, run, "none") == []
        stopped = rig.steps(run, "pump-1")["stopped"]
        assert stopped.failure.code == "http_failed"
        assert [r is None for r in stopped.result] == [False, False, True]


@pytest.mark.row("B9")
def test_a_timeout_keeps_what_a_loop_has_done(rig):
    site(rig)
    each = {"uses": "flow.delay", "with": {"for": "{{ item }}"}, "expect": "true"}
    slow = {**loop(items=["10ms", "10ms", "1m"], step=each), "timeout": "1500ms"}
    note = {"uses": "flow.set", "with": {"values": {"n": "{{ item }}"}}}
    more = loop("more", items=[1, 2], step=note)
    run = rig.start(job(more, slow))
    rig.finish(run, "failed")
    found = rig.steps(run, "pump-1")
    assert found["loop"].failure.code == "step_timed_out"
    assert (len(found["loop"].result), found["more"].result) == (3, [{"n": 1}, {"n": 2}])
    assert rig.task(run, "pump-1").status is TaskStatus.FAILED


@pytest.mark.row("B15")
def test_clean_up_runs_after_a_failure_and_after_a_cancel(rig):
    site(rig)
    with WebServer() as service:
        steps = [
            {"id": "work", "uses": "flow.delay", "with": {"for": "30s"}},
            {**request(f"{service.url}/rollback", "rollback"), "on_failure": True},
            {**request(f"{service.url}/clean", "clean"), "always": True},
        ]
        run = rig.start(job(*steps))
        rig.wait_for_step(run, "pump-1", "work")
        rig.client.runs.cancel(run, force=True)
        rig.finish(run, "cancelled")
        assert [asked.path for asked in service.asked] == ["/clean"]
        failing = [{"uses": "flow.check", "with": {"that": "false"}}, *steps[1:]]
        run = rig.start(job(*failing, job="failing"))
        rig.finish(run, "failed")
        assert [asked.path for asked in service.asked[1:]] == ["/rollback", "/clean"]
