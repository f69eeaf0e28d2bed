"""What a gateway holds against what we hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.domain.handshake import (
    Admission,
    Admitted,
    Corrections,
    Ended,
    Ours,
    Refusal,
    admit,
    compare,
)
from contract.admission import key_of, proof_of
from contract.lifecycle import TaskStatus
from contract.messages import Hello, TaskMark

T = TaskStatus


def mark(status: TaskStatus, revision: int = 1, attempt: int = 1) -> TaskMark:
    return TaskMark(task="run-1", attempt=attempt, revision=revision, status=status)


def ours(status: TaskStatus, revision: int = 1) -> Ours:
    return Ours("run-1", 1, revision, status)


def test_the_same_needs_nothing():
    assert compare([ours(T.RUNNING)], {}, [mark(T.RUNNING)]) == Corrections()


def test_what_differs_is_asked_for():
    found = compare([ours(T.RUNNING)], {}, [mark(T.SUCCEEDED, 4)])
    assert found == Corrections(report=[("run-1", 1)])


def test_what_is_not_there_is_offered_again_or_missing():
    assert compare([ours(T.OFFERED)], {}, []).offer == [("run-1", 1)]
    assert compare([ours(T.RUNNING)], {}, []).missing == [("run-1", 1)]


def test_what_has_ended_here_is_forgotten_or_stopped():
    ended = {("run-1", 1): Ended(3)}
    assert compare([], ended, [mark(T.ACCEPTED)]).forget == [("run-1", 1)]
    assert compare([], ended, [mark(T.RUNNING)]).cancel == [(("run-1", 1), False)]
    forced = {("run-1", 1): Ended(3, forced=True)}
    assert compare([], forced, [mark(T.RUNNING)]).cancel == [(("run-1", 1), True)]
    assert compare([], ended, [mark(T.SUCCEEDED, 3)]) == Corrections()
    assert compare([], ended, [mark(T.SUCCEEDED, 4)]).report == [("run-1", 1)]


def test_what_nobody_here_has_heard_of_is_orphaned():
    assert compare([ours(T.RUNNING)], {}, [mark(T.RUNNING, attempt=2)]).orphaned


def hello(token: str = "", mark: str = "m-2", last_mark: str = "m-1", journal: str = "j") -> Hello:
    proof = proof_of(key_of(token), "n", journal, "i") if token else ""
    return Hello(
        nonce="n", page=1, pages=1, journal=journal, instance="i", proof=proof, mark=mark,
        last_mark=last_mark,
    )  # fmt: skip


KEY = key_of("mine")


def test_whoever_proves_the_token_is_let_in():
    assert admit(Admission(KEY), hello("mine")) == Admitted()
    assert admit(Admission(KEY), hello("another")) == Refusal("token_void")
    # A gateway without a token is the broker's to know, until one was given out anew.
    assert admit(Admission(KEY), hello()) == Admitted()
    assert admit(Admission(KEY, must_prove=True), hello()) == Refusal("token_void")
    assert admit(Admission(KEY, is_retired=True), hello("mine")) == Refusal("gateway_retired")


def test_a_proof_is_for_one_hello_alone():
    said = hello("mine").model_copy(update={"nonce": "another"})
    assert admit(Admission(KEY), said) == Refusal("token_void")


def test_the_token_of_a_replacement_overrules_what_stands_against_a_journal():
    known = Admission(
        KEY, journal="j", next_key=key_of("next"), must_prove=True, mark="m-9",
        is_journal_retired=True,
    )  # fmt: skip
    assert admit(known, hello("next")) == Admitted(by_next=True)
    assert admit(known, hello("mine")) == Refusal("journal_retired")


@pytest.mark.parametrize(
    ("known", "let_in"), [("m-1", True), ("m-2", True), ("", True), ("m-0", False), ("m-3", False)]
)
def test_a_copy_does_not_know_the_newest_mark(known: str, let_in: bool):
    found = admit(Admission(KEY, journal="j", mark=known), hello("mine"))
    assert found == (Admitted() if let_in else Refusal("journal_copied"))
    # Another journal has marks of its own.
    assert admit(Admission(KEY, journal="old", mark=known), hello("mine")) == Admitted()


@given(st.lists(st.sampled_from(["lost", "answer lost", "welcomed", "power cut"]), max_size=30))
def test_a_gateway_alone_is_never_taken_for_a_copy(story: list[str]):
    """Whatever of hellos and welcomes is lost, and whatever a power cut forgets."""
    mark, welcomed, known, number = "", "", "", 0
    for event in story:
        if mark == welcomed:
            number += 1
            mark = f"m-{number}"
        said = hello("mine", mark, welcomed)
        if event == "lost":
            continue
        assert admit(Admission(KEY, journal="j", mark=known), said) == Admitted()
        known = mark
        if event == "welcomed":
            welcomed = mark
