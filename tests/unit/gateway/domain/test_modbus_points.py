"""Every type in every order goes to registers and back as `struct` has it, and neighbours join."""

import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contract.documents import DocumentInvalid, load
from gateway.domain.modbus_points import (
    Block,
    PointInvalid,
    Write,
    blocks,
    decode,
    encode,
    values_in,
    writes,
)
from gateway.domain.modbus_profile import REGISTERS_OF, ModbusProfile, Point
from tests.kit.modbus_rigs import demo_profile

pytestmark = pytest.mark.row("E4")

LETTERS = {
    "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q",
    "float32": "f", "float64": "d",
}  # fmt: skip
ORDERS = st.sampled_from(["big", "little"])
WORDS = st.integers(0, 0xFFFF)


def profile(points: dict[str, Any], **more: Any) -> ModbusProfile:
    return ModbusProfile.model_validate({"driver": "modbus", "name": "p", "points": points, **more})


def one(**point: Any) -> tuple[ModbusProfile, Point]:
    made = profile({"a": {"kind": "holding", "address": 0, "access": "read_write", **point}})
    return made, made.points["a"]


def on_the_wire(raw: bytes, byte_order: str, word_order: str) -> tuple[int, ...]:
    """What a register holds, said once more and differently: pairs of bytes, swapped as told."""
    pairs = [raw[at : at + 2] for at in range(0, len(raw), 2)]
    pairs = pairs[::-1] if word_order == "little" else pairs
    pairs = [pair[::-1] for pair in pairs] if byte_order == "little" else pairs
    return tuple(struct.unpack(">H", pair)[0] for pair in pairs)


@given(st.sampled_from(sorted(LETTERS)), ORDERS, ORDERS, st.data())
def test_every_number_in_every_order_goes_there_and_back(kind, byte_order, word_order, data):
    made, point = one(type=kind, byte_order=byte_order, word_order=word_order)
    bits = 16 * REGISTERS_OF[kind]
    if kind.startswith("float"):
        value = data.draw(
            st.floats(allow_nan=False, allow_infinity=False, width=64 if bits == 64 else 32)
        )
    elif kind.startswith("u"):
        value = data.draw(st.integers(0, 2**bits - 1))
    else:
        value = data.draw(st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
    raw = struct.pack(f">{LETTERS[kind]}", value)
    words = encode(made, point, value)
    assert words == on_the_wire(raw, byte_order, word_order)
    assert decode(made, point, words) == value


@given(
    st.sampled_from(["int16", "uint16", "int32"]),
    st.sampled_from([0.1, 0.01, 0.001, 0.5, 2, -1, 10]),
    st.sampled_from([0, -40, 273.15]),
    st.integers(-3000, 3000),
)
def test_a_scaled_value_is_read_as_it_was_written(kind, scale, offset, raw):
    made, point = one(type=kind, scale=scale, offset=offset)
    raw = abs(raw) if kind == "uint16" else raw
    words = on_the_wire(struct.pack(f">{LETTERS[kind]}", raw), "big", "big")
    value = decode(made, point, words)
    assert encode(made, point, value) == words


def test_a_third_of_a_tenth_is_no_surprise():
    made, point = one(scale=0.1)
    assert decode(made, point, [3]) == 0.3
    whole, plain = one(scale=2, offset=1)
    assert decode(whole, plain, [3]) == 7
    assert isinstance(decode(whole, plain, [3]), int)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=8), ORDERS)
def test_a_text_goes_there_and_back_whatever_the_word_order(text, order):
    made, point = one(type="string", length=4, byte_order=order, word_order="little")
    words = encode(made, point, text)
    assert len(words) == 4
    assert decode(made, point, words) == text
    assert words == on_the_wire(text.encode().ljust(8, b"\0"), order, "big")


@given(WORDS, st.dictionaries(st.sampled_from(["lo", "mid", "hi"]), st.booleans(), min_size=1))
def test_bits_change_alone(before, change):
    made, point = one(type="bits", bits={"lo": 0, "mid": 7, "hi": 15})
    (after,) = encode(made, point, dict(change), [before])
    told = decode(made, point, [before])
    assert isinstance(told, dict)
    assert decode(made, point, [after]) == {**told, **change}
    unnamed = 0xFFFF & ~(1 | 1 << 7 | 1 << 15)
    assert after & unnamed == before & unnamed


@given(st.sampled_from([*LETTERS, "bool", "bits", "string"]), st.data())
def test_any_registers_are_a_value_of_json(kind, data):
    named: dict[str, dict[str, Any]] = {"bits": {"bits": {"a": 3}}, "string": {"length": 5}}
    more = named.get(kind, {})
    made, point = one(type=kind, scale=1, **more)
    words = data.draw(st.lists(WORDS, min_size=point.size, max_size=point.size))
    value = decode(made, point, words)
    assert value is None or isinstance(value, bool | int | float | str | dict)
    if isinstance(value, float):
        assert math.isfinite(value)
    if value is not None and kind not in ("string", "bool"):
        again = encode(made, point, value, words)
        assert decode(made, point, again) == value


@pytest.mark.parametrize(
    ("point", "value", "said"),
    [
        ({}, 65536, "does not fit uint16"),
        ({}, -1, "does not fit"),
        ({}, True, "no number"),
        ({}, "7", "no number"),
        ({}, float("nan"), "no number"),
        ({"type": "int16", "scale": 0.1, "max": 100, "unit": "Hz"}, 101, "above 100 Hz"),
        ({"min": 5}, 4, "below 5"),
        ({"type": "float32"}, 1e300, "does not fit float32"),
        ({"type": "bool"}, 2, "neither true nor false"),
        ({"type": "string", "length": 1}, "abc", "3 characters; 2 fit"),
        ({"type": "string", "length": 1}, "é", "no ASCII"),
        ({"type": "bits", "bits": {"a": 0}}, {"b": True}, "no bit `b` (known: a)"),
        ({"type": "bits", "bits": {"a": 0}}, 3, "no object of bits"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_sent(point, value, said):
    made, found = one(**point)
    with pytest.raises(PointInvalid) as caught:
        encode(made, found, value)
    assert said in str(caught.value)


def test_neighbours_are_read_together_and_strangers_are_not():
    points = {
        "a": {"kind": "holding", "address": 10, "type": "uint32"},
        "b": {"kind": "holding", "address": 12},
        "c": {"kind": "holding", "address": 14},
        "d": {"kind": "input", "address": 13},
        "e": {"kind": "coil", "address": 3},
        "f": {"kind": "coil", "address": 4},
    }
    made = profile(points)
    assert blocks(made, ["f", "c", "b", "a", "d", "e", "a"]) == [
        Block("coil", 3, 2, ("e", "f")),
        Block("holding", 10, 3, ("a", "b")),
        Block("holding", 14, 1, ("c",)),
        Block("input", 13, 1, ("d",)),
    ]
    bridged = blocks(profile(points, max_gap=1), ["a", "b", "c"])
    assert bridged == [Block("holding", 10, 5, ("a", "b", "c"))]
    assert values_in(made, bridged[0], [0, 5, 6, 99, 7]) == {"a": 5, "b": 6, "c": 7}


@given(
    st.lists(st.tuples(st.integers(0, 400), st.sampled_from(["uint16", "uint32", "float64"]))),
    st.integers(4, 125),
    st.integers(0, 5),
)
def test_blocks_hold_every_point_once_and_none_is_cut(places, most, gap):
    points = {
        f"p{n}": {"kind": "holding", "address": at, "type": kind}
        for n, (at, kind) in enumerate(places)
    }
    if not points:
        return
    made = profile(points, max_registers=most, max_gap=gap)
    found = blocks(made, list(points))
    assert sorted(name for block in found for name in block.names) == sorted(points)
    for block in found:
        assert block.count <= most
        for name in block.names:
            point = made.points[name]
            assert block.address <= point.address
            assert point.address + point.size <= block.address + block.count


def test_neighbours_are_written_together_if_they_are_read_back_alike():
    common = {"kind": "holding", "access": "read_write"}
    made = profile(
        {
            "a": {**common, "address": 0},
            "b": {**common, "address": 1, "type": "uint32"},
            "c": {**common, "address": 3, "read_back": True},
            "d": {"kind": "coil", "address": 0, "access": "write"},
            "x": {"kind": "input", "address": 0},
        }
    )
    assert writes(made, {"c": 9, "b": 65537, "d": True, "a": 7}) == [
        Write("coil", 0, (1,), ("d",)),
        Write("holding", 0, (7, 1, 1), ("a", "b")),
        Write("holding", 3, (9,), ("c",)),
    ]
    with pytest.raises(PointInvalid, match="`a`: 70000"):
        writes(made, {"a": 70000})


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ({"kind": "input", "address": 0, "access": "read_write"}, "cannot be written"),
        ({"kind": "holding", "address": 0, "type": "string"}, "`length`"),
        ({"kind": "holding", "address": 0, "type": "bits"}, "`bits`"),
        ({"kind": "holding", "address": 0, "scale": 0}, "cannot be 0"),
        ({"kind": "holding", "address": 0, "read_back": True}, "read_write"),
        ({"kind": "coil", "address": 0, "type": "float32"}, "is a bool"),
        ({"kind": "coil", "address": 0, "scale": 2}, "only numbers"),
        ({"kind": "holding", "address": 65535, "type": "uint32"}, "beyond address 65535"),
    ],
)
def test_a_point_that_cannot_be_is_refused(point, said):
    with pytest.raises(ValidationError) as caught:
        profile({"a": point, "b": {"kind": "input", "address": 1}})
    assert said in str(caught.value)


def test_a_wrong_profile_is_named_with_its_place():
    text = "driver: modbus\nname: p\nfacts: [b]\npoints:\n  a: {kind: holding, adress: 3}\n"
    with pytest.raises(DocumentInvalid) as caught:
        load(text, ModbusProfile, "p.yaml")
    assert "p.yaml:5:22" in str(caught.value)
    assert "did you mean `address`" in str(caught.value)
    wrong = text.replace("adress", "address")
    with pytest.raises(DocumentInvalid, match="`b` is no point that can be read"):
        load(wrong, ModbusProfile, "p.yaml")


def test_the_shipped_profile_is_valid_and_named_after_its_file():
    assert demo_profile().name == "roundsman_demo_drive"
