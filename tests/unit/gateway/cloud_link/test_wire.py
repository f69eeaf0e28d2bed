"""The link's state: which welcome opens a session, what is stamped, what is dropped."""

import pytest

from contract.ids import GatewayId, OrgId
from contract.messages import Offer, Report, Welcome, encode, parse
from contract.topics import Address, Kind
from gateway.cloud_link.wire import STRANGERS, LinkState


@pytest.fixture
def state():
    made = LinkState(Address(OrgId("default"), GatewayId("north")), "journal", "instance")
    made.nonce = "n1"
    return made


def opened(state):
    assert state.open_session(Welcome(session="s1", nonce="n1", journal="journal"))
    return state


def test_only_the_welcome_of_our_hello_opens_a_session(state):
    assert not state.open_session(Welcome(session="s1", nonce="other"))
    assert not state.open_session(Welcome(session="s1", nonce="n1", journal="another"))
    assert state.session is None
    opened(state)
    assert state.session == "s1"
    assert not state.open_session(Welcome(session="s1", nonce="n1", journal="journal"))


def test_messages_are_stamped_with_session_and_a_growing_counter(state):
    opened(state)
    reports = [parse(Kind.REPORT, state.seal(Report())) for _ in range(3)]
    assert [(r.session, r.counter) for r in reports] == [("s1", 1), ("s1", 2), ("s1", 3)]


def test_lists_of_json_become_part_of_a_report(state):
    opened(state)
    line = '{"number":1,"at":5,"text":"a \\"quote\\""}'
    report = parse(Kind.REPORT, state.seal_report(Report(message=7), {"tasks": [], "logs": [line]}))
    assert isinstance(report, Report)
    assert (report.message, report.logs[0].text) == (7, 'a "quote"')


def test_what_names_another_session_is_dropped_and_counted(state):
    opened(state)
    foreign = encode(Offer(session="s0"))
    assert state.open(Kind.OFFER, foreign) is None
    assert state.open(Kind.OFFER, encode(Offer(session="s1"))) == Offer(session="s1")
    assert state.open(Kind.OFFER, b"nonsense") is None
    assert state.dropped == {"another session": 1, "invalid offer": 1}


def test_many_messages_of_another_session_ask_for_a_new_hello(state):
    opened(state)
    for _ in range(STRANGERS):
        state.open(Kind.OFFER, encode(Offer(session="s2")))
    assert state.hello_within.qsize() == 1


def test_a_conflict_begins_no_work(state):
    state.open_session(Welcome(session="s1", nonce="n1", conflict=True))
    assert not state.may_begin_work
