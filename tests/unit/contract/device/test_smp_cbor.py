"""CBOR of devices: the plain kinds are read, what could harm us is refused before it is decoded."""

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.device.smp import MAX_DEPTH, SmpInvalid, read_cbor

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False)
    | st.text(max_size=9) | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=20,
)  # fmt: skip


@given(PLAIN)
def test_every_plain_value_is_read(value):
    assert read_cbor(cbor2.dumps(value)) == value


def test_lengths_that_the_end_tells_are_read():
    assert read_cbor(b"\xbf\x61a\x9f\x01\x02\xff\x61b\x5f\x41x\x41y\xff\xff") == {
        "a": [1, 2],
        "b": b"xy",
    }


@given(PLAIN, st.data())
def test_every_cut_is_noticed(value, data):
    whole = cbor2.dumps({"a": value})
    with pytest.raises(SmpInvalid):
        read_cbor(whole[: data.draw(st.integers(0, len(whole) - 1))])


@pytest.mark.row("E6")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xd8\x1c\x81\xd8\x1d\x00", "tag 28"),  # a list that holds itself
        (b"\xd8\x23\x66(a+)+$", "tag 35"),  # a regular expression
        (b"\xc2\x41\x01", "tag 2"),
        (b"\x81" * (MAX_DEPTH + 2), "too deep"),
        (b"\x9f" * 1_000, "too deep"),
        (b"\x9b" + b"\xff" * 8, "too soon"),
        (b"\x5b\x00\x00\x00\x7f\xff\xff\xff\xff", "too soon"),
        (b"\xff", "head"),
        (b"\x1c", "head"),
        (b"", "too soon"),
    ],
)
def test_what_could_harm_us_is_refused(data, reason):
    with pytest.raises(SmpInvalid, match=reason):
        read_cbor(data)


def test_lists_that_share_their_items_do_not_grow_beyond_measure():
    # 30 levels of two times the one below: 2**30 values, were they shared.
    shared = b"\xd8\x1c\x82" * 30 + b"\x01\x01" + b"\xd8\x1d\x00" * 30
    with pytest.raises(SmpInvalid):
        read_cbor(shared)
