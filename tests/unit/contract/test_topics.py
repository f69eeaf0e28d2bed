"""Topics are built and parsed by one module, and foreign ones never pass."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.ids import ID_PATTERN, GatewayId, OrgId, is_id, run_of, slug, task_id
from contract.topics import DOWN, UP, Address, Kind, TopicInvalid, parse, up_filter

ADDRESS = Address(OrgId("default"), GatewayId("berlin-1"))


@given(
    st.from_regex(ID_PATTERN, fullmatch=True),
    st.from_regex(ID_PATTERN, fullmatch=True),
    st.sampled_from(Kind),
)
def test_a_topic_names_its_gateway_and_kind(org: str, gateway: str, kind: Kind) -> None:
    address = Address(OrgId(org), GatewayId(gateway))
    assert parse(address.topic(kind)) == (address, kind)


def test_the_wire_of_the_first_release() -> None:
    assert ADDRESS.topic(Kind.REPORT) == "roundsman/v1/06/default/berlin-1/up/report"
    assert ADDRESS.topic(Kind.OFFER) == "roundsman/v1/06/default/berlin-1/down/offer"
    assert up_filter(6) == "roundsman/v1/06/+/+/up/+"
    assert set(Kind) == UP | DOWN


@pytest.mark.parametrize(
    ("topic", "why"),
    [
        ("other/v1/06/default/berlin-1/up/report", "not below"),
        ("roundsman/v1/06/default/berlin-1/up", "not below"),
        ("roundsman/v1/07/default/berlin-1/up/report", "outside the gateway's shard 06"),
        ("roundsman/v1/06/default/#/up/report", "no valid org and gateway"),
        ("roundsman/v1/06/default/berlin-1/up/gossip", "no kind of message"),
        ("roundsman/v1/06/default/berlin-1/up/offer", "wrong direction"),
        ("roundsman/v1/06/default/berlin-1/down/report", "wrong direction"),
        ("roundsman/v1/06/default/berlin-1/sideways/report", "wrong direction"),
    ],
)
def test_what_does_not_fit_is_refused(topic: str, why: str) -> None:
    with pytest.raises(TopicInvalid, match=why):
        parse(topic)


@given(st.text(max_size=200))
def test_any_text_is_a_topic_of_ours_or_refused(text: str) -> None:
    try:
        address, kind = parse(text)
    except TopicInvalid:
        return
    assert address.topic(kind) == text


@given(st.text(min_size=1, max_size=300))
def test_a_name_in_any_language_makes_an_id(name: str) -> None:
    assert is_id(slug(name))
    assert slug(name) == slug(unicodedata.normalize("NFD", name))


def test_ids_and_slugs() -> None:
    assert slug("Pumpen in Köln, v2!") == "pumpen-in-koln-v2"
    assert slug("Größe ÀÉÎ ﬁ ①") == "grosse-aei-fi-1"
    assert slug("ポンプ") == "job-80c04c7e"
    assert slug("固件 v2") == "v2-612b6c0b"
    assert not is_id("a\n")
    assert not is_id("-a")
    run = "0190c3a0-0000-7000-8000-000000000000"
    assert run_of(task_id(run, 17)) == run
