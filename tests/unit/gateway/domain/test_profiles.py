"""Profiles: what a family's topics and payloads mean, decided without a broker."""

from pathlib import Path

import pytest
from pydantic import JsonValue

from contract.documents import DocumentInvalid, load
from contract.template_dialect import TemplateError, evaluate
from gateway.domain.profile_messages import (
    Accepted,
    Declined,
    answer_in,
    news_in,
    payload_of,
    request_of,
)
from gateway.domain.profiles import Exchange, Profile, matches

FOLDER = Path(__file__).parents[4] / "configs" / "profiles"
PROFILES = [p for p in sorted(FOLDER.glob("*.yaml")) if "driver: modbus" not in p.read_text()]
PLAIN = """
name: plain
vars: {base: tele}
commands:
  state: {topic: "{{ vars.base }}/{{ device }}/get", payload: "?", reply: {topic: "r/{{ device }}"}}
"""


def scope(**more: JsonValue) -> dict[str, JsonValue]:
    return {"device": "d1", "vars": {"prefix": "dev"}, "request": "r1", "parameters": {}, **more}


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_shipped_profile_is_valid_and_named_after_its_file(path):
    profile = load(path.read_text(), Profile, path.name)
    assert profile.name == path.stem
    assert profile.filters({"device": "d1", "vars": profile.vars})


def test_an_exchange_takes_from_the_profile_what_it_leaves_out():
    profile = load((FOLDER / "roundsman_demo.yaml").read_text(), Profile, "demo")
    read = profile.command("read")
    assert isinstance(read, Exchange)
    assert request_of(read, scope(command="read", parameters={"point": "t", "id": "x"})) == (
        "dev/d1/cmd",
        b'{"point":"t","id":"r1","command":"read"}',
    )
    assert profile.command("anything") is not None
    assert profile.command("version").repeatable is True
    assert profile.command("anything").repeatable is False


def test_only_the_matching_message_is_the_answer():
    reply = load((FOLDER / "roundsman_demo.yaml").read_text(), Profile, "demo").exchange.reply
    assert reply is not None
    assert answer_in(reply, scope(), {"id": "r2", "ok": True, "result": 1}) is None
    assert answer_in(reply, scope(), "half a mess") is None
    assert answer_in(reply, scope(), {"id": "r1", "ok": True, "result": 1}) == Accepted(1)
    refused: JsonValue = {"id": "r1", "ok": False, "code": "busy", "error": "not now"}
    assert answer_in(reply, scope(), refused) == Declined("busy", "not now")


def test_text_payloads_and_any_message_as_answer():
    profile = load(PLAIN, Profile, "plain")
    state = profile.command("state")
    assert isinstance(state, Exchange) and state.reply is not None
    assert profile.command("other") is None
    assert request_of(state, scope(vars=dict(profile.vars))) == ("tele/d1/get", b"?")
    assert answer_in(state.reply, scope(), "on") == Accepted("on")


def test_news_say_how_far_and_how_it_ended():
    demo = load((FOLDER / "roundsman_demo.yaml").read_text(), Profile, "demo")
    (progress,) = demo.firmware.upload.progress
    on_the_way = news_in(progress, scope(), {"state": "downloading", "progress": 40})
    assert (on_the_way.percent, on_the_way.note, on_the_way.end) == (40, "downloading", None)
    assert isinstance(news_in(progress, scope(), {"state": "staged"}).end, Accepted)
    failed: JsonValue = {"state": "failed", "code": "digest_wrong", "error": "not it"}
    assert news_in(progress, scope(), failed).end == Declined("digest_wrong", "not it")
    assert news_in(progress, scope(), {"state": "running"}) is None
    assert news_in(progress, scope(), "noise") is None


def test_payloads_are_json_where_they_can_be():
    assert payload_of(b'{"a": 1}') == {"a": 1}
    assert payload_of(b"ON") == "ON"
    assert payload_of(b"\xff") == "�"
    assert payload_of(b"[" * 100_000) == "[" * 100_000


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("  broken: {topic: '{{ oops'}", "commands.broken"),
        ("  broken: {reply: {topic: r, match: 'a =='}}", "match"),
        ("  broken: {topick: x}", "topic"),
        ("  broken: {set: {relay: true}}", "cannot be written"),
    ],
)
def test_a_wrong_profile_is_named_with_its_place(line, message):
    with pytest.raises(DocumentInvalid, match=message):
        load(f"{PLAIN}{line}\n", Profile, "plain.yaml")


@pytest.mark.parametrize(
    ("wanted", "topic", "is_so"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/c", False),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/+/c", "a/b/c", True),
        ("a/#", "a/b/c", True),
        ("a/#", "b/a", False),
        ("+/b", "/b", True),
        ("a/+", "a", False),
    ],
)
def test_topics_are_matched_as_brokers_do(wanted, topic, is_so):
    assert matches(wanted, topic) is is_so


def test_filters_that_another_one_covers_are_left_out():
    """Overlapping subscriptions bring a message once or twice, as the broker likes."""
    tasmota = load((FOLDER / "tasmota.yaml").read_text(), Profile, "tasmota")
    filters = tasmota.filters({"device": "plug", "vars": tasmota.vars})
    assert filters == ["stat/plug/+", "tele/plug/LWT"]


@pytest.mark.parametrize("command", ["#", "a/+", "", "x" * 70_000])
def test_a_parameter_brings_in_no_topic_that_cannot_be_published_on(command):
    tasmota = load((FOLDER / "tasmota.yaml").read_text(), Profile, "tasmota")
    send = tasmota.command("send")
    assert isinstance(send, Exchange)
    seen = scope(vars=dict(tasmota.vars), parameters={"command": command})
    if command:
        with pytest.raises(TemplateError):
            request_of(send, seen)
    else:
        assert request_of(send, seen) == ("cmnd/d1/", b"")


def test_the_version_of_tasmota_is_without_its_build_except_on_the_way_there():
    read = load((FOLDER / "tasmota.yaml").read_text(), Profile, "tasmota").firmware.read
    found = {
        said: evaluate(read.version, {"result": {"Version": said}})
        for said in ("14.4.1(release-nspanel)", "14.4.1(minimal)")
    }
    assert list(found.values()) == ["14.4.1", "14.4.1(minimal)"]
