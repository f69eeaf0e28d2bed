"""Frames survive whatever shares their line, and nothing damaged ever counts as a frame."""

import base64
import binascii
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.device.smp_frames import FrameReader, SmpFrame, TextLine, encode_frame

messages = st.binary(min_size=0, max_size=600)


def frames_of(reader: FrameReader, data: bytes) -> list[bytes]:
    return [found.message for found in reader.feed(data) if isinstance(found, SmpFrame)]


def split_at(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def test_a_message_becomes_marked_base64_lines_of_at_most_127_bytes():
    lines = encode_frame(bytes(range(200)))
    assert [line[:2] for line in lines] == [b"\x06\x09", b"\x04\x14", b"\x04\x14"]
    assert [len(line) for line in lines] == [127, 127, 27]
    packet = base64.b64decode(b"".join(line[2:-1] for line in lines))
    assert packet[:2] == (202).to_bytes(2, "big")
    assert packet[2:-2] == bytes(range(200))
    assert packet[-2:] == binascii.crc_hqx(bytes(range(200)), 0).to_bytes(2, "big")


def test_lines_too_short_and_messages_too_long_are_our_own_mistake():
    with pytest.raises(ValueError, match="holds no data"):
        encode_frame(b"x", line_length=6)
    with pytest.raises(ValueError, match="does not fit"):
        encode_frame(bytes(65534))


@given(st.lists(st.binary(max_size=300)), st.integers(8, 40))
def test_any_bytes_in_any_pieces_never_raise_and_stay_bounded(pieces, max_line):
    reader = FrameReader(max_line=max_line, max_message=64)
    for piece in pieces:
        reader.feed(piece)
        assert len(reader._line) <= max_line
        assert len(reader._packet or b"") <= 4 * (64 + 4) // 3 + max_line + 4
    reader.flush()


@given(messages, st.lists(st.integers(0, 2000), max_size=8), st.sampled_from([127, 128, 64, 512]))
def test_a_frame_survives_any_split(message, cuts, line_length):
    reader = FrameReader()
    wire = b"".join(encode_frame(message, line_length))
    found = [frame for piece in split_at(wire, cuts) for frame in frames_of(reader, piece)]
    assert found == [message]
    assert reader.counters.frames == 1


@given(st.lists(st.tuples(st.binary(max_size=400), messages), max_size=5))
def test_frames_survive_garbage_between_them_with_or_without_line_end(pairs):
    reader = FrameReader()
    wire = b"".join(garbage + b"".join(encode_frame(message)) for garbage, message in pairs)
    found = frames_of(reader, wire)
    expected = iter([message for _, message in pairs])
    wanted = next(expected, None)
    for message in found:  # garbage might hold a frame of its own: a subsequence is what we need
        if message == wanted:
            wanted = next(expected, None)
    assert wanted is None


@given(messages, st.integers(0, 10**6), st.integers(1, 255))
def test_a_changed_byte_never_yields_a_changed_message(message, where, flip):
    wire = bytearray(b"".join(encode_frame(message)))
    wire[where % len(wire)] ^= flip
    assert frames_of(FrameReader(), bytes(wire) + b"\n") in ([], [message])


def test_a_wrong_crc_is_counted_and_the_next_frame_is_fine():
    packet = (4).to_bytes(2, "big") + b"hi" + b"\x00\x00"
    reader = FrameReader()
    assert reader.feed(b"\x06\x09" + base64.b64encode(packet) + b"\n") == []
    assert reader.counters.bad_crc == 1
    assert frames_of(reader, b"".join(encode_frame(b"next"))) == [b"next"]


def test_logs_before_and_after_a_frame_in_one_line_come_out_as_text():
    frame = encode_frame(b"reply")[0].rstrip(b"\n")
    reader = FrameReader()
    found = reader.feed(b"\x1b[32muart:~$ \x1b[0m" + frame + b" <inf> app: hello\r\n")
    assert found == [TextLine("uart:~$"), SmpFrame(b"reply"), TextLine("<inf> app: hello")]


def test_a_log_line_between_the_lines_of_a_frame_does_no_harm():
    first, second = encode_frame(bytes(120))
    found = FrameReader().feed(first + b"I: Swap type: test\n" + second)
    assert found == [TextLine("I: Swap type: test"), SmpFrame(bytes(120))]


def test_a_log_line_inside_a_frame_line_costs_that_frame_only():
    line = encode_frame(b"a reply of some length")[0]
    reader = FrameReader()
    assert frames_of(reader, line[:12] + b"[00:01] <wrn> oops\n" + line[12:]) == []
    assert frames_of(reader, line) == [b"a reply of some length"]
    assert reader.counters.incomplete == 1


def test_half_a_frame_followed_by_a_whole_one_in_the_same_line():
    reader = FrameReader()
    assert frames_of(reader, encode_frame(bytes(60))[0][:40]) == []
    assert frames_of(reader, encode_frame(b"whole")[0]) == [b"whole"]


def test_a_further_line_without_a_first_is_a_stray():
    reader = FrameReader()
    assert reader.feed(encode_frame(bytes(120))[1]) == []
    assert reader.counters.stray == 1


def test_a_packet_that_claims_too_much_is_dropped_at_once():
    reader = FrameReader(max_message=100)
    assert frames_of(reader, encode_frame(bytes(150))[0]) == []
    assert reader.counters.oversize == 1


def test_a_line_without_end_is_let_go_but_a_frame_in_it_is_kept():
    reader = FrameReader(max_line=300)
    found = reader.feed(b"x" * 1000 + encode_frame(b"kept")[0])
    assert SmpFrame(b"kept") in found
    assert reader.counters.overlong >= 1


def test_flush_gives_out_a_prompt_that_has_no_line_end():
    reader = FrameReader()
    assert reader.feed(b"login: ") == []
    assert reader.flush() == [TextLine("login:")]
