"""SMP messages as the wire has them, and replies read from devices of every age."""

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.device import smp

DIGEST = bytes(range(32))


def reply(payload: object, command: int = 0, sequence: int = 0) -> bytes:
    body = cbor2.dumps(payload)
    return smp.Header(smp.Op.READ_REPLY, 1, command, sequence, len(body)).encode() + body


def test_the_header_is_the_one_of_the_specification():
    assert smp.echo("hi").encode(7) == bytes.fromhex("0a000006 0000 07 00 a1 6164 626869")
    version_1 = smp.Request(smp.Op.READ, 1, 0, {}, version=0)
    assert version_1.encode(255) == bytes.fromhex("00000001 0001 ff 00 a0")


@given(st.integers(0, 7), st.integers(0, 65535), st.integers(0, 255), st.integers(0, 255),
       st.integers(0, 65535), st.integers(0, 3), st.integers(0, 255))  # fmt: skip
def test_headers_come_back_as_they_went(op, group, command, sequence, length, version, flags):
    header = smp.Header(op, group, command, sequence, length, version, flags)
    assert smp.Header.decode(header.encode()) == header


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ({"rc": 8}, smp.SmpError(None, 8, "not supported")),
        ({"err": {"group": 1, "rc": 30}}, smp.SmpError(1, 30, "image too large")),
        ({"ret": {"group": 1, "rc": 22}}, smp.SmpError(1, 22, "image header too short")),
        ({"err": {"group": 70, "rc": 5}}, smp.SmpError(70, 5, "error 5")),
        ({"rc": 0, "off": 12}, None),
        ({"rc": "odd"}, None),
        ({}, None),
    ],
)
def test_all_three_ways_to_say_an_error_are_understood(payload, error):
    assert smp.decode_response(reply(payload)).error == error


@given(st.binary(max_size=200))
def test_any_bytes_are_a_reply_or_invalid(data):
    for message in (data, smp.Header(1, 1, 0, 0, len(data)).encode() + data):
        try:
            smp.decode_response(message)
        except smp.SmpInvalid:
            continue


def test_a_truncated_payload_and_a_request_are_no_replies():
    with pytest.raises(smp.SmpInvalid, match="payload"):
        smp.decode_response(reply({"off": 1})[:-1])
    with pytest.raises(smp.SmpInvalid, match="not a reply"):
        smp.decode_response(smp.os_params().encode(1))
    with pytest.raises(smp.SmpInvalid, match="not a map"):
        smp.decode_response(reply([1]))


def test_a_reply_belongs_to_the_request_with_its_sequence():
    request = smp.state_read()
    header = smp.decode_response(reply({}, sequence=9)).header
    assert request.is_answered_by(header, 9)
    assert not request.is_answered_by(header, 10)
    assert not smp.os_params().is_answered_by(header, 9)


def test_image_state_is_read_tolerantly():
    payload = {
        "images": [
            {"slot": 0, "version": "2.0.0.5", "hash": DIGEST, "active": True, "splitStatus": 0},
            {"image": 1, "slot": 1, "version": "1.0.0"},
            "noise",
        ],
        "splitStatus": 0,
    }
    first, second = smp.image_slots(payload)
    assert first == smp.ImageSlot(0, "2.0.0.5", DIGEST, active=True)
    assert second == smp.ImageSlot(1, "1.0.0", None, image=1)
    with pytest.raises(smp.SmpInvalid):
        smp.image_slots({"rc": 0})


def test_indefinite_maps_are_read():
    body = bytes.fromhex("bf 636f6666 0c ff")
    message = smp.Header(3, 1, 1, 0, len(body)).encode() + body
    assert smp.upload_progress(smp.decode_response(message).payload) == smp.UploadProgress(12, None)


def test_parameters_progress_and_slot_sizes():
    assert smp.buffer_parameters({"buf_size": 384, "buf_count": 4}) == smp.BufferParameters(384, 4)
    assert smp.upload_progress({"off": 5, "match": True}) == smp.UploadProgress(5, True)
    assert smp.slot_sizes({"images": [{"slots": [{"slot": 1, "size": 4096}, {}]}, 3]}) == [
        smp.SlotSize(0, 1, 4096)
    ]
    with pytest.raises(smp.SmpInvalid):
        smp.buffer_parameters({})
    with pytest.raises(smp.SmpInvalid):
        smp.upload_progress({"match": True})


@given(st.integers(150, 65530), st.integers(0, 2**32 - 1))
def test_a_chunk_fills_the_buffer_exactly(buf_size, offset):
    for request in (
        lambda data: smp.upload_next(offset, data),
        lambda data: smp.upload_first(300000, DIGEST, data, upgrade=True),
    ):
        size = smp.max_chunk(buf_size, request(b""))
        assert len(request(bytes(size)).encode(0)) + 4 <= buf_size
        assert len(request(bytes(size + 1)).encode(0)) + 4 > buf_size


def test_a_buffer_beyond_what_a_frame_can_hold_is_not_filled():
    size = smp.max_chunk(10**6, smp.upload_next(0, b""))
    smp.encode_frame(smp.upload_next(0, bytes(size)).encode(0))


def test_known_chunk_sizes():
    assert smp.max_chunk(384, smp.upload_next(70000, b"")) == 354
    assert smp.max_chunk(2048, smp.upload_next(70000, b"")) == 2018
    two_lines = smp.max_chunk(smp.TWO_LINES_BUF_SIZE, smp.upload_next(70000, b""))
    assert len(smp.encode_frame(smp.upload_next(70000, bytes(two_lines)).encode(0))) == 2


def test_an_unsigned_state_write_names_no_hash():
    assert smp.state_write(None, confirm=True).payload == {"confirm": True}
    assert smp.state_write(DIGEST, confirm=False).payload == {"hash": DIGEST, "confirm": False}
