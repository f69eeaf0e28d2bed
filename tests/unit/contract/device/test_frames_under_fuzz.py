"""Damage of every kind through the decoders: no wrong frame is taken, memory stays bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.device.line_json import LineReader
from contract.device.smp import FrameReader, SmpInvalid, decode_request, decode_response
from tests.kit.frame_fuzz import fuzz_line_json, fuzz_smp

pytestmark = pytest.mark.row("E4", "E8")

FUZZ = {"line_json": fuzz_line_json, "smp": fuzz_smp}
# A reader keeps a line or a packet; what is more is the story that the test itself holds.
PEAK_BYTES = 1_000_000


def check(figures, size):
    assert figures.size == size
    assert figures.accepted > figures.sent / 3
    assert figures.bad_checksum > size / 5_000  # the damage did reach the checksum
    assert figures.wrong == 0, figures.examples
    assert figures.peak_bytes < PEAK_BYTES


@pytest.mark.parametrize("protocol", FUZZ)
def test_no_wrong_frame_is_taken(protocol):
    check(FUZZ[protocol](250_000, seed=7), 250_000)


@pytest.mark.campaign
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("protocol", FUZZ)
def test_no_wrong_frame_is_taken_in_ten_million_bytes(protocol):
    check(FUZZ[protocol](10_000_000, seed=1), 10_000_000)


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_the_readers_take_any_bytes_and_raise_nothing(fed):
    smp, line_json = FrameReader(), LineReader()
    for data in fed:
        smp.feed(data)
        line_json.feed(data)
    smp.flush()


@given(st.integers(0, 255), st.binary(max_size=120))
def test_an_smp_message_of_any_bytes_raises_the_decoders_own_error_only(first, body):
    """With a header that fits, so that the bytes come to the CBOR decoder."""
    header = bytes([first, 0]) + len(body).to_bytes(2, "big") + b"\x00\x01\x00\x00"
    for decode in (decode_request, decode_response):
        try:
            decode(header + body)
        except SmpInvalid:
            continue
