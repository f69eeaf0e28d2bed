"""Images are real: our parser reads what imgtool made, with and without a signature."""

import pytest

from contract.device.mcuboot import parse_image
from firmware_sim import images


def test_the_same_arguments_give_the_same_unsigned_image():
    one = images.build_image("2.4.1", 4000, seed=7)
    assert one == images.build_image("2.4.1", 4000, seed=7)
    assert one != images.build_image("2.4.1", 4000, seed=8)
    assert abs(len(one) - 4000) < 256
    assert not parse_image(one).is_signed


def test_the_command_builds_signs_and_makes_a_missing_key(tmp_path):
    key, out = tmp_path / "key.pem", tmp_path / "pump.bin"
    arguments = [str(out), "--version", "2.4.1.7", "--size", "5000", "--key", str(key)]
    assert images.main(arguments) == 0
    image = parse_image(out.read_bytes())
    assert (image.version, image.is_signed) == ("2.4.1.7", True)
    assert key.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("more", [["--version", "nonsense"], ["--version", "1.0.0", "--size", "9"]])
def test_what_cannot_be_built_is_said_and_leaves_no_file(tmp_path, capsys, more):
    with pytest.raises(SystemExit) as stopped:
        images.main([str(tmp_path / "x.bin"), *more])
    assert stopped.value.code == 2
    assert "error" in capsys.readouterr().err
    assert not (tmp_path / "x.bin").exists()
