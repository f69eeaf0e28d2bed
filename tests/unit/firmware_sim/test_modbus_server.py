"""The simulated server answers as the specification's examples do, and nothing upsets it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim.modbus_server import Registers, RtuReader, crc16, rtu_frame

pytestmark = pytest.mark.row("E9")


def answer(registers, pdu):
    return registers.answer(bytes.fromhex(pdu))[0].hex(" ")


def test_the_examples_of_the_specification():
    """Modbus Application Protocol 1.1b3, section 6: each function's own example."""
    coils = {19 + at: int(bit) for at, bit in enumerate("1011001111010110101", 0)}
    held = Registers(coils=coils | {172: 0}, holding={1: 0, 2: 0, 107: 0x022B, 108: 0, 109: 0x64})
    held.input[8] = 0x0A
    assert answer(held, "01 00 13 00 13") == "01 03 cd 6b 05"
    assert answer(held, "03 00 6b 00 03") == "03 06 02 2b 00 00 00 64"
    assert answer(held, "04 00 08 00 01") == "04 02 00 0a"
    assert answer(held, "05 00 ac ff 00") == "05 00 ac ff 00"
    assert held.coils[172] == 1
    assert answer(held, "06 00 01 00 03") == "06 00 01 00 03"
    assert answer(held, "0f 00 13 00 0a 02 cd 01") == "0f 00 13 00 0a"
    assert [held.coils[19 + at] for at in range(10)] == [1, 0, 1, 1, 0, 0, 1, 1, 1, 0]
    assert answer(held, "10 00 01 00 02 04 00 0a 01 02") == "10 00 01 00 02"
    assert (held.holding[1], held.holding[2]) == (0x0A, 0x0102)


@pytest.mark.parametrize(
    ("pdu", "reply"),
    [
        ("03 00 05 00 01", "83 02"),  # no such register
        ("03 00 00 00 02", "83 02"),  # the second is not there
        ("03 00 00 00 7e", "83 03"),  # 126 registers
        ("05 00 00 12 34", "85 03"),  # neither on nor off
        ("06 00 07 00 01", "86 04"),  # the device fails there
        ("10 00 00 00 01 04 00 01 00 02", "90 03"),  # two registers are not one
        ("2b 0e 01 00", "ab 01"),  # a function that nobody knows here
    ],
)
def test_what_cannot_be_is_an_exception(pdu, reply):
    held = Registers(coils={0: 0}, holding={0: 5, 7: 0}, exceptions={7: 4})
    assert answer(held, pdu) == reply
    assert held.holding == {0: 5, 7: 0}


def test_the_crc_of_the_specification():
    """Modbus over Serial Line 1.02: 02 07 has the CRC 1241, low byte first on the line."""
    assert crc16(bytes([2, 7])) == 0x1241
    assert rtu_frame(2, b"\x07")[-2:].hex() == "4112"
    assert crc16(rtu_frame(2, b"\x07")) == 0


def test_frames_come_in_pieces_and_silence_ends_half_of_one():
    reader, frame = RtuReader(0.05), rtu_frame(3, bytes.fromhex("0300000001"))
    assert reader.feed(frame[:3], 1.0) == []
    assert reader.feed(frame[3:] + frame, 1.01) == [(3, frame[1:-2])] * 2
    assert reader.feed(frame[:5], 2.0) == []
    assert reader.feed(frame, 2.1) == [(3, frame[1:-2])]
    assert reader.feed(frame[:-1] + b"\0", 3.0) == []
    assert reader.bad_crc == 1


@given(st.lists(st.tuples(st.binary(max_size=300), st.floats(0, 0.2))))
def test_any_bytes_are_no_trouble_and_take_no_room(pieces):
    reader, now_s = RtuReader(0.05), 0.0
    for data, pause_s in pieces:
        now_s += pause_s
        for unit, pdu in reader.feed(data, now_s):
            assert crc16(rtu_frame(unit, pdu)) == 0
    assert len(reader._buffer) <= 256 + 300


@given(st.binary(max_size=260))
def test_any_pdu_has_an_answer(pdu):
    held = Registers(coils={0: 0}, holding=dict.fromkeys(range(200), 0), input={0: 1})
    reply, _ = held.answer(pdu)
    assert 2 <= len(reply) <= 253
