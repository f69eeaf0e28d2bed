"""A line-JSON frame is what was sent, or nothing: whatever the line does, whatever JSON holds."""

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.device.line_json import (
    MAX_LINE,
    Event,
    LineInvalid,
    LineReader,
    Reply,
    Request,
    decode,
    encode,
)

pytestmark = pytest.mark.row("E4")

words = st.text("abcXYZ019._-", min_size=1, max_size=20)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=30),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=8), x, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=8), values, max_size=4)
frames = st.one_of(
    st.builds(Request, words, words, words, objects, st.none() | words),
    st.builds(Reply, words, words, st.just("done"), values),
    st.builds(Reply, words, words, st.just("refused"), code=words, text=st.text(max_size=40)),
    st.builds(Reply, words, words, st.just("busy"), progress=st.none() | st.integers(0, 100)),
    st.builds(Event, words, words, st.text(max_size=40), objects),
)


def checked(text: str) -> bytes:
    """A line whose checksum is right, whatever stands in it."""
    body = text.encode()[:-1]
    return b'%b,"crc":"%08x"}' % (body, zlib.crc32(body))


def test_a_frame_is_one_json_object_that_ends_with_its_checksum():
    """The example of the reference page."""
    line = encode(Request("g-1", "valve-2", "open", {"percent": 40}))
    assert line == (
        b'\n{"id":"g-1","to":"valve-2","cmd":"open","params":{"percent":40},"crc":"62ff20ba"}\n'
    )
    members = json.loads(line)
    assert members["crc"] == f"{zlib.crc32(line[1:-19]):08x}"


@given(frames)
def test_what_is_encoded_is_decoded(frame):
    assert decode(encode(frame).strip(b"\n")) == frame


@given(frames, st.data())
def test_no_changed_bit_and_no_lost_or_doubled_byte_is_accepted(frame, data):
    line = encode(frame).strip(b"\n")
    at = data.draw(st.integers(0, len(line) - 1))
    flip = data.draw(st.integers(0, 7))
    flipped = line[:at] + bytes([line[at] ^ (1 << flip)]) + line[at + 1 :]
    for damaged in (flipped, line[:at] + line[at + 1 :], line[:at] + line[at : at + 1] + line[at:]):
        try:
            assert decode(damaged) == frame  # a byte doubled into its like is no damage
            assert damaged == line
        except LineInvalid:
            continue


@given(st.lists(frames, min_size=1, max_size=4), st.data())
def test_frames_come_out_whole_however_the_line_cuts_them(sent, data):
    whole = b"".join(map(encode, sent))
    reader, found, at = LineReader(), [], 0
    while at < len(whole):
        size = data.draw(st.integers(1, 40))
        found += reader.feed(whole[at : at + size])
        at += size
    assert found == sent
    assert reader.counters.garbage_bytes == 0


@given(frames)
def test_every_split_of_a_frame_gives_the_same(frame):
    line = encode(frame)
    for cut in range(len(line)):
        reader = LineReader()
        assert [*reader.feed(line[:cut]), *reader.feed(line[cut:])] == [frame]


@given(st.binary(max_size=300), frames)
def test_garbage_before_a_frame_is_gone_with_the_empty_line(garbage, frame):
    reader = LineReader()
    assert reader.feed(garbage + encode(frame))[-1] == frame


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_both_line_ends_are_taken(line_end):
    line = encode(Reply("1", "a")).strip(b"\n")
    assert LineReader().feed(line + line_end) == [Reply("1", "a")]


@pytest.mark.parametrize(
    "text",
    [
        '{"id":1,"to":"a","cmd":"x"}',
        '{"id":"1","to":"a b","cmd":"x"}',
        '{"id":"1","to":"a","cmd":"x","params":[]}',
        '{"id":"1","to":"a","cmd":"x","boot":7}',
        '{"id":"1","from":"a"}',
        '{"id":"1","from":"a","ok":1}',
        '{"from":"a","event":"log","values":[]}',
        '{"id":"1","from":"a","ok":true,"result":NaN}',
        '{"id":"1","from":"a","ok":true,"result":1e999}',
        '{"id":"1","from":"a","ok":true,"result":' + "[" * 1200 + "]" * 1200 + "}",
        '{"id":"1","from":"a","ok":true,"result":' + "9" * 4010 + "}",
        '{"id":"' + "x" * 65 + '","from":"a","ok":true}',
        '{"half":',
        "{}",
    ],
)
def test_what_is_no_frame_has_one_error_however_right_its_checksum(text):
    line = checked(text)
    if "999999" in text:
        line = checked(text.replace("9" * 4010, "9" * 5000))  # more digits than Python reads
    with pytest.raises(LineInvalid) as caught:
        decode(line)
    assert caught.value.problem == "malformed"


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: checked("{" + text + "}")))
def test_any_bytes_raise_the_decoders_own_error_only(line):
    try:
        decode(line)
    except LineInvalid as error:
        assert error.problem in ("no_frame", "bad_crc", "malformed")


def test_a_line_without_end_takes_bounded_memory_and_costs_itself_only():
    reader, frame = LineReader(max_line=100), Reply("1", "a")
    for _ in range(1000):
        assert reader.feed(b'{"id":"1",') == []
        assert len(reader._line) <= 101
    assert reader.feed(encode(frame)) == [frame]
    assert (reader.counters.overlong, reader.counters.garbage_bytes) == (1, 10_000)


def test_what_is_too_long_or_no_json_is_not_sent():
    with pytest.raises(LineInvalid) as caught:
        encode(Request("1", "a", "x", {"text": "y" * MAX_LINE}))
    assert caught.value.problem == "overlong"
    with pytest.raises(LineInvalid):
        encode(Reply("1", "a", result=float("nan")))
