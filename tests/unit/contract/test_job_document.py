"""The job document: the whole of it is read, what is wrong is named, macros become steps."""

import json
from datetime import timedelta

import pytest

from contract import documents
from contract.documents import DocumentInvalid
from contract.job_document import (
    JobDocument,
    expand,
    json_schema,
    not_performed,
    problems,
    step_lists,
)

WHOLE = """
name: Pumpen-Firmware
description: Bring the pumps of a site to a version
type: firmware
targets:
  resource: device
  query: {type: pump, tags.site: "{{ ctx.site }}", state.version: {$ne: "{{ ctx.version }}"}}
context: {site: berlin, version: 2.4.1, image: pump-2.4.1}
iteration: {mode: parallel, concurrency: 200, timeout: 15m, delay: 0s, acknowledge: steps}
priority: normal
retry: {on: [timeout, failure], attempts: 3, delay: 1m, backoff: 2.0, max_delay: 30m}
rollout:
  waves: [{count: 5, name: canary, wait: 10m}, {percent: 25}, {percent: 100}]
  rate: 1000/min
  abort: [{on: failed, above: 10%, after: 20, then: cancel}]
steps:
  - id: before
    uses: device.command
    with: {name: version}
    expect: "result.version is defined"
  - uses: firmware.upload
    when: "steps.before.result.version != ctx.version"
    with: {artifact: "{{ ctx.image }}"}
    retry: {attempts: 3, delay: 5s}
accumulator: "{{ (accumulator or 0) + 1 }}"
schedule:
  window: {from: "22:00", to: "05:00", weekdays: [mon-fri], zone: site}
on_timeout: [{run: cleanup-job}]
on_complete: [{run: mail-report}]
replaces: [old-firmware-job]
sinks: [{type: webhook, url: "https://example.org/hook", events: [run.completed]}]
"""


def _job(steps: str, more: str = "") -> JobDocument:
    return documents.load(f"name: x\n{more}\nsteps:\n{steps}", JobDocument, "job.yaml")


def test_the_whole_document_is_read() -> None:
    job = documents.load(WHOLE, JobDocument, "job.yaml")
    assert problems(job) == []
    assert job.iteration.timeout == timedelta(minutes=15)
    assert job.retry.on == ["timeout", "failure"]
    assert job.schedule is not None
    assert job.schedule.window is not None
    assert job.schedule.window["from"] == "22:00"


def test_what_this_release_does_not_perform_is_named_with_its_place() -> None:
    job = documents.load(WHOLE, JobDocument, "job.yaml")
    assert [str(place) for place in not_performed(job)] == [
        "rollout.waves",
        "rollout.rate",
        "rollout.abort",
        "schedule",
        "sinks",
    ]


@pytest.mark.parametrize(
    ("step", "key", "message"),
    [
        ("{uses: device.dance}", "steps[0].uses", "`device.dance` is no step; known are"),
        ("{uses: device.command}", "steps[0].with.name", "Field required"),
        ("{uses: device.wait, with: {until: never}}", "steps[0].with.until", "'online'"),
        ("{uses: device.reset, with: {hard: true}}", "steps[0].with.hard", "not permitted"),
        ("{uses: flow.delay, with: {for: soon}}", "steps[0].with.for", "soon"),
        ("{uses: flow.set, with: {values: {a: '{{ 1 + }}'}}}", "steps[0].with.values.a", ""),
    ],
)
def test_a_wrong_step_is_named_with_its_place(step: str, key: str, message: str) -> None:
    found = problems(_job(f" - {step}"))
    assert [str(place) for place, _ in found][:1] == [key]
    assert message in found[0][1]


def test_two_steps_of_one_id_are_refused() -> None:
    found = problems(_job(" - {id: a, uses: device.reset}\n - {id: a, uses: device.reset}"))
    assert [(str(place), text) for place, text in found] == [("steps[1].id", "`a` names two steps")]


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ("tragets: {}", "job.yaml:2:1: tragets: unknown key `tragets`; did you mean `targets`?"),
        ("iteration: {timeout: 99d}", "a timeout is from 1s to 30 days"),
        ("iteration: {concurrency: 0}", "job.yaml:2:26: iteration.concurrency"),
        ("retry: {on: [sometimes]}", "retry.on[0]"),
        ("targets: {resource: row}", "need a `table`"),
    ],
)
def test_a_malformed_document_says_where(more: str, where: str) -> None:
    with pytest.raises(DocumentInvalid) as caught:
        _job(" - uses: device.reset", more)
    assert where in str(caught.value)


def test_steps_without_an_id_get_one_of_their_own() -> None:
    job = _job(" - uses: device.reset\n - {id: reset_2, uses: flow.log, with: {text: a}}\n"
               " - uses: device.reset")  # fmt: skip
    assert [step.id for step in expand(step_lists(job)["steps"])] == ["reset", "reset_2", "reset_3"]


def test_firmware_update_becomes_its_six_steps() -> None:
    job = _job(
        " - {uses: firmware.update, when: 'ctx.go', timeout: 10m,"
        " with: {artifact: a, version: 2.0.0, wait: 90s}}"
    )
    steps = expand(step_lists(job)["steps"])
    assert [(step.id, step.uses) for step in steps] == [
        ("upload", "firmware.upload"),
        ("test", "firmware.test"),
        ("reset", "device.reset"),
        ("wait", "device.wait"),
        ("verify", "firmware.verify"),
        ("confirm", "firmware.confirm"),
    ]
    assert {step.when for step in steps} == {"ctx.go"}
    assert steps[3].with_ == {"until": "online", "timeout": "90s"}
    assert steps[0].timeout == 600_000


def test_certificate_rotate_becomes_its_five_steps() -> None:
    job = _job(" - {id: new, uses: certificate.rotate, timeout: 1m, with: {days: 30, slot: 1}}")
    steps = expand(step_lists(job)["steps"])
    assert [(step.id, step.uses) for step in steps] == [
        (f"new_{verb}", f"certificate.{verb}")
        for verb in ("request", "sign", "install", "verify", "commit")
    ]
    assert [step.with_ for step in steps] == [{"slot": 1}, {"days": 30}, *[{"slot": 1}] * 3]
    assert {step.timeout for step in steps} == {60_000}


def test_the_schema_is_json_and_closed() -> None:
    schema = json_schema()
    assert json.loads(json.dumps(schema))["additionalProperties"] is False
    assert {"targets", "steps", "iteration"} <= set(schema["properties"])
