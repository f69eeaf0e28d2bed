"""What every verb must do: be in the library, say what a restart means, and act accordingly."""

import json
from typing import Any, cast

import pytest

from contract.messages import Reply
from contract.steps import PERFORMED, VERBS, AfterRestart, problems_of
from gateway.actions.base import Call, StepDone, StepOutcome, StepRefused, StepUnanswered
from gateway.actions.registry import ACTIONS
from gateway.domain.parameters import rendered
from gateway.errors import CallRefused, GatewayError, StepInvalid
from gateway.transports.base import Message
from gateway.transports.web import WebAnswer

SCOPE: dict[str, Any] = {"run": {"id": "r"}, "task": {"id": "r-1", "attempt": 1}, "ctx": {"n": 3}}
ON_DEVICES = ("device.", "firmware.", "certificate.")  # asked in test_drivers
GOOD: dict[str, dict[str, Any]] = {
    "flow.delay": {"for": "10ms"},
    "flow.check": {"that": "ctx.n == 3"},
    "flow.set": {"values": {"n": "{{ ctx.n }}"}},
    "flow.log": {"text": "hello"},
    "flow.acknowledge": {"success": True, "result": "{{ ctx.n }}"},
    "flow.for_each": {
        "items": [1, 2],
        "step": {"uses": "flow.set", "with": {"values": {"n": "{{ item }}"}}},
    },
    "http.request": {"url": "https://example.com/", "json": {"n": 1}, "method": "POST"},
    "mqtt.publish": {"topic": "a/b", "payload": {"n": 1}},
    "mqtt.await": {"topic": "a/+", "match": "payload.n == ctx.n"},
    "notify.email": {"to": "a@example.com", "subject": "s", "text": "t"},
    "notify.sms": {"to": ["+4930123456"], "text": "t"},
    "sql.query": {"database": "plant", "statement": "SELECT $1", "parameters": [1]},
    "fleet.tag": {"tags": {"a": 1}},
    "fleet.set": {"attributes": {"a": 1}},
    "fleet.record_state": {"values": {"a": 1}},
    "fleet.write_row": {"table": "visits", "values": {"a": 1}},
    "fleet.delete": {"device": "pump-1"},
    "fleet.acknowledge": {"task": "r-2"},
    "fleet.run_job": {"job": "other"},
    "fleet.postpone_run": {"run": "r", "by": "1h"},
    "fleet.cancel_run": {"run": "r"},
    "fleet.extend_run": {"items": [{"target": "pump-1"}]},
}
VERBS_HERE = sorted(verb for verb in PERFORMED if not verb.startswith(ON_DEVICES))


class World:
    """What a step reaches, kept in memory; `did` is every effect outside."""

    def __init__(self, refuses: bool = False) -> None:
        self.did: list[str] = []
        self.refuses = refuses
        self.kept: Any = None
        self.read_only = False
        self.web = self.messages = self.mail = self.sms = self.databases = self

    async def ask(self, request: Any) -> WebAnswer:
        self.did.append(f"{request.method} {request.url}")
        if self.refuses:
            return WebAnswer(500, {}, b"no")
        return WebAnswer(200, {"content-type": "application/json"}, b"{}")

    async def send(self, to: Any, subject: str, text: str, message_id: str) -> None:
        if self.refuses:
            raise StepInvalid("no", "mail_failed")
        self.did.append(message_id)

    async def deliver(self, to: str, text: str, key: str) -> None:
        if self.refuses:
            raise StepInvalid("no", "sms_failed")
        self.did.append(key)

    def is_read_only(self, name: str) -> bool:
        return self.read_only

    async def query(self, name: str, statement: Any) -> dict[str, Any]:
        if self.refuses:
            raise StepInvalid("no", "sql_failed")
        self.did.append(statement.text)
        return {}

    async def publish(self, topic: str, payload: bytes, **options: Any) -> None:
        self.did.append(f"{topic} {payload.decode()}")

    async def subscribe(self, filters: Any, on_message: Any, *, timeout_s: float) -> Any:
        on_message(Message("a/b", b"no JSON"))
        on_message(Message("a/b", json.dumps({"n": 3}).encode()))
        return self

    def close(self) -> None:
        pass

    async def ask_cloud(self, call: Call) -> Any:
        self.did.append(call.uses)
        if self.refuses:
            raise CallRefused("no", result={"run": "r"})
        return Reply(key="k").result

    async def perform(self, call: Call) -> StepOutcome:
        return await ACTIONS[call.uses].perform(call, cast(Any, self))

    async def sleep(self, seconds: float) -> None:
        self.did.append("slept")

    def keep(self, result: Any) -> None:
        self.kept = result

    def progress(self, percent: float, note: str) -> None:
        assert 0 <= percent <= 100

    def log(self, level: str, text: str) -> None:
        self.did.append(f"{level} {text}")

    def now_ms(self) -> int:
        return 0


async def perform(verb: str, world: World, resumed: bool = False, **changes: Any) -> StepOutcome:
    parameters = rendered(verb, {**GOOD[verb], **changes}, SCOPE)
    call = Call("step", verb, parameters, 5.0, resumed, SCOPE)
    return await ACTIONS[verb].perform(call, cast(Any, world))


@pytest.mark.row("A12")
def test_the_library_and_the_gateway_know_the_same_verbs():
    assert set(ACTIONS) == set(PERFORMED)
    for name, action in ACTIONS.items():
        assert action.after_restart is VERBS[name].after_restart, name
    for name, verb in VERBS.items():
        assert verb.summary and verb.parameters.__doc__, name
        json.dumps(verb.parameters.model_json_schema())


@pytest.mark.parametrize("verb", VERBS_HERE)
async def test_it_is_performed_as_it_is_written(verb):
    assert problems_of(verb, GOOD[verb]) == []
    assert isinstance(await perform(verb, World()), StepDone)


@pytest.mark.parametrize("verb", VERBS_HERE)
def test_a_parameter_that_nobody_knows_is_refused_when_the_job_is_saved(verb):
    assert problems_of(verb, {**GOOD[verb], "nonsense": 1})


@pytest.mark.parametrize("verb", VERBS_HERE)
async def test_after_a_restart_it_does_what_it_says(verb):
    world = World()
    outcome = await perform(verb, world, resumed=True)
    if VERBS[verb].after_restart is AfterRestart.REPEAT or verb == "flow.for_each":
        assert isinstance(outcome, StepDone)
    else:
        assert isinstance(outcome, StepUnanswered)
        assert outcome.code == "interrupted"
        assert world.did == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_a_request_that_may_be_repeated_is(method):
    outcome = await perform("http.request", World(), resumed=True, method=method)
    assert isinstance(outcome, StepDone)


@pytest.mark.row("A12")
async def test_a_database_that_may_only_be_read_is_asked_again_after_a_restart():
    world = World()
    world.read_only = True
    assert isinstance(await perform("sql.query", world, resumed=True), StepDone)
    assert world.did == ["SELECT $1"]


@pytest.mark.row("A12")
@pytest.mark.parametrize(
    ("verb", "changes"),
    [
        ("sql.query", {"statement": "SELECT {{ ctx.n }}"}),
        ("notify.sms", {"to": "030 123456"}),
        ("notify.sms", {"to": ["+4930123456"] * 101}),
    ],
)
def test_what_can_be_seen_to_be_wrong_is_refused_when_the_job_is_saved(verb, changes):
    assert problems_of(verb, {**GOOD[verb], **changes})


async def test_a_loop_of_what_may_not_be_repeated_stops_after_a_restart():
    each = {"uses": "http.request", "with": GOOD["http.request"]}
    world = World()
    outcome = await perform("flow.for_each", world, resumed=True, step=each)
    assert isinstance(outcome, StepRefused)
    assert (outcome.code, world.did) == ("interrupted", [])


@pytest.mark.parametrize(
    "verb", [v for v in VERBS_HERE if v.startswith(("fleet", "http", "not", "sql"))]
)
async def test_a_refusal_is_an_answer_with_a_code(verb):
    try:
        outcome = await perform(verb, World(refuses=True))
    except GatewayError as error:
        assert getattr(error, "code", "")
    else:
        assert isinstance(outcome, StepRefused)
        assert outcome.code


@pytest.mark.row("B9")
@pytest.mark.parametrize("mode", ["serial", "parallel"])
async def test_data_of_an_item_is_never_rendered_again(mode):
    each = {"uses": "flow.set", "with": {"values": {"n": "{{ item }}"}}}
    items = ["{{ ctx.n }}", "plain"]
    parameters = {"items": items, "step": each, "mode": mode}
    call = Call("step", "flow.for_each", parameters, 5.0, False, SCOPE)
    outcome = await ACTIONS["flow.for_each"].perform(call, cast(Any, World()))
    assert isinstance(outcome, StepDone)
    assert outcome.result == [{"n": "{{ ctx.n }}"}, {"n": "plain"}]


@pytest.mark.row("B9")
@pytest.mark.parametrize("items", ["text", 5, None, list(range(1001))])
async def test_what_is_no_bounded_list_is_refused(items):
    with pytest.raises(StepInvalid):
        await perform("flow.for_each", World(), items=items)
