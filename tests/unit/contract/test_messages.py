"""Messages: bytes and back, bad ones, and good items among bad ones."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.lifecycle import TaskStatus
from contract.messages import (
    LogLine,
    MessageInvalid,
    Report,
    TaskMark,
    TaskSnapshot,
    digest_of,
    encode,
    parse,
    split,
)
from contract.topics import Kind

GOOD = TaskSnapshot(task="run-1", attempt=1, revision=4, status=TaskStatus.RUNNING)


def _report(*tasks: object, **more: object) -> bytes:
    return json.dumps({"tasks": tasks, **more}).encode()


def test_a_message_is_one_line_and_leaves_defaults_out() -> None:
    line = encode(Report(session="s", tasks=[GOOD], logs=[LogLine(number=1, at=2, text="a\nb")]))
    assert b"\n" not in line
    assert b"truncated" not in line
    assert parse(Kind.REPORT, line) == Report(
        session="s", tasks=[GOOD], logs=[LogLine(number=1, at=2, text="a\nb")]
    )


def test_a_second_line_is_left_to_whoever_has_the_key() -> None:
    line = encode(Report(tasks=[GOOD]))
    assert split(line) == (line, None)
    assert split(line + b"\nsig") == (line, b"sig")
    assert parse(Kind.REPORT, line + b"\nsig") == Report(tasks=[GOOD])


def test_fields_of_a_newer_release_are_ignored() -> None:
    good = {**json.loads(GOOD.model_dump_json()), "colour": "green"}
    report = parse(Kind.REPORT, _report(good, weather="fair"))
    assert isinstance(report, Report)
    assert report.tasks == [GOOD]


def test_an_unreadable_item_stands_aside_and_the_others_pass() -> None:
    good = json.loads(GOOD.model_dump_json())
    bad = {**good, "task": "run-2", "progress": 250}
    newer = {**good, "task": "run-3", "status": "dreaming"}
    report = parse(Kind.REPORT, _report(good, bad, newer, 7, logs=[{"number": "x"}], message=9))
    assert isinstance(report, Report)
    assert report.tasks == [GOOD]
    assert report.message == 9
    assert [(u.task, u.attempt, u.revision) for u in report.undecodable] == [
        ("run-2", 1, 4),
        ("run-3", 1, 4),
        ("", 0, 0),
    ]
    assert "progress" in report.undecodable[0].reason
    assert json.loads(report.undecodable[0].raw) == bad


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"7", b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("kind", list(Kind))
def test_what_is_no_message_is_refused(kind: Kind, payload: bytes) -> None:
    with pytest.raises(MessageInvalid):
        parse(kind, payload)


@given(
    st.sampled_from(Kind),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["tasks", "logs", "states", "session", "task", "nonce", "items"]),
                inner,
                max_size=5,
            )
        ),
        max_leaves=12,
    ),
)
def test_no_json_raises_anything_but_message_invalid(kind: Kind, value: object) -> None:
    with contextlib.suppress(MessageInvalid):
        parse(kind, json.dumps(value).encode())


def test_a_digest_knows_no_order() -> None:
    marks = [
        TaskMark(task=f"run-{n}", attempt=1, revision=n, status=TaskStatus.RUNNING)
        for n in range(5)
    ]
    assert digest_of(marks) == digest_of(marks[::-1])
    assert digest_of(marks) != digest_of(marks[1:])
