"""Real images from MCUboot's own imgtool are read; damaged ones are refused with a reason."""

import struct
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.device import mcuboot
from contract.device.mcuboot import ImageInvalid, ImageVersion, parse_image


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Images signed by imgtool, by kind."""
    folder = tmp_path_factory.mktemp("images")
    body = folder / "body.bin"
    body.write_bytes(bytes(range(256)) * 8)

    def imgtool(*arguments):
        command = [sys.executable, "-m", "imgtool.main", *map(str, arguments)]
        subprocess.run(command, check=True, capture_output=True, cwd=folder)

    def sign(name, version, *more):
        sizes = ["--header-size", "0x200", "--pad-header", "--align", "8", "--slot-size", "0x10000"]
        target = folder / name
        imgtool("sign", "--version", version, *sizes, *more, body, target)
        return target.read_bytes()

    imgtool("keygen", "-k", "key.pem", "-t", "ecdsa-p256")
    return {
        "hash only": sign("plain.bin", "2.0.0+5"),
        "ecdsa": sign("ecdsa.bin", "2.4.1", "-k", "key.pem"),
        "protected": sign("protected.bin", "1.2.3", "-k", "key.pem", "-s", "7"),
        "padded": sign("padded.bin", "1.0.0", "-k", "key.pem", "--pad"),
    }


@pytest.mark.parametrize(
    ("kind", "version", "is_signed"),
    [
        ("hash only", "2.0.0.5", False),
        ("ecdsa", "2.4.1", True),
        ("protected", "1.2.3", True),
        ("padded", "1.0.0", True),
    ],
)
def test_images_of_imgtool_are_read(made, kind, version, is_signed):
    image = parse_image(made[kind])
    assert image.version == version
    assert image.is_signed is is_signed
    assert len(image.hash) == 32
    assert image.size <= len(made[kind])


def test_protected_tlvs_are_part_of_the_hash(made):
    image = parse_image(made["protected"])
    counter = [tlv for tlv in image.tlvs if tlv.type == mcuboot.TlvType.SECURITY_COUNTER]
    assert [(tlv.value, tlv.is_protected) for tlv in counter] == [(b"\x07\0\0\0", True)]
    data = bytearray(made["protected"])
    data[data.index(struct.pack("<HHI", 0x50, 4, 7)) + 4] = 8
    with pytest.raises(ImageInvalid, match="damaged"):
        parse_image(bytes(data))


def test_a_flipped_bit_in_the_body_is_found(made):
    data = bytearray(made["ecdsa"])
    data[1000] ^= 1
    with pytest.raises(ImageInvalid, match="damaged"):
        parse_image(bytes(data))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "too short"),
        (b"\x7fELF" + bytes(60), "not an MCUboot image"),
        (struct.pack("<I", mcuboot.HEADER_MAGIC) + bytes(28), "header says it is 0 bytes"),
    ],
)
def test_what_is_no_image_is_refused_with_its_reason(data, reason):
    with pytest.raises(ImageInvalid, match=reason):
        parse_image(data)


def test_every_cut_is_noticed(made):
    data = made["protected"][: parse_image(made["protected"]).size]
    for length in [*range(0, 600, 37), *range(len(data) - 250, len(data))]:
        with pytest.raises(ImageInvalid):
            parse_image(data[:length])


@given(st.binary(max_size=400))
def test_any_bytes_are_an_image_or_invalid(data):
    for candidate in (data, struct.pack("<I", mcuboot.HEADER_MAGIC) + data):
        try:
            parse_image(candidate)
        except ImageInvalid:
            continue


def test_versions_are_written_as_devices_write_them():
    assert str(mcuboot.parse_version("2.0.0+5")) == "2.0.0.5"
    assert str(mcuboot.parse_version("2.0.0.0")) == "2.0.0"
    assert mcuboot.parse_version("1.9.0") < mcuboot.parse_version("1.10.0") < ImageVersion(2, 0, 0)
    for wrong in ("1.2", "1.2.x", "256.0.0", "1.2.3.4.5", ""):
        with pytest.raises(ImageInvalid):
            mcuboot.parse_version(wrong)
