"""Real MCUboot images, made and signed by MCUboot's own imgtool.

`python -m firmware_sim.images OUT.bin --version 2.4.1 --size 60000 --seed 7 [--key key.pem]`
"""

import argparse
import contextlib
import io
import os
import random
import tempfile
from pathlib import Path
from typing import Any, Final

from imgtool import keys
from imgtool.image import Image
from imgtool.version import decode_version

HEADER_SIZE: Final = 0x200
SLOT_SIZE: Final = 0x100000


def build_image(
    version: str,
    size: int,
    seed: int | str = 0,
    key: Path | None = None,
    address: int | None = None,
) -> bytes:
    """Return a signed image of about `size` bytes in all, the same bytes for the same arguments.

    `address`: linked to lie there in flash and nowhere else, as direct XIP needs it.
    Without `key` it carries a hash only, as a bootloader without signature check takes it; ECDSA
    signatures are random, so signed images differ in that TLV. `version` is "2.4.1" or "2.4.1.7".
    Raises ValueError for a version imgtool refuses or a size that leaves no body.
    """
    if size < HEADER_SIZE + 256:
        raise ValueError(f"an image of {size} bytes has no room for a body")
    linked = "" if address is None else f"/{address:#x}"
    body = random.Random(f"{seed}/{version}{linked}").randbytes(size - HEADER_SIZE - 200)
    image = Image(
        version=decode_version(_imgtool_version(version)),
        header_size=HEADER_SIZE,
        pad_header=True,
        align=8,
        slot_size=max(SLOT_SIZE, 2 * size),
        rom_fixed=address,
    )
    with tempfile.TemporaryDirectory(prefix="roundsman-image-") as folder:
        source, target = Path(folder, "body.bin"), Path(folder, "image.bin")
        source.write_bytes(body)
        image.load(str(source))
        with contextlib.redirect_stdout(io.StringIO()):  # imgtool says that it signs
            image.create(_load_key(key), "hash", None)
        image.save(str(target))
        return target.read_bytes()


def make_key(path: Path) -> None:
    """Write a new ECDSA P-256 signing key (PEM, readable by its owner only)."""
    keys.ECDSA256P1.generate().export_private(str(path))
    path.chmod(0o600)


def _imgtool_version(version: str) -> str:
    parts = version.split(".")
    return f"{'.'.join(parts[:3])}+{parts[3]}" if len(parts) == 4 else version


def _load_key(path: Path | None) -> Any:
    return None if path is None else keys.load(str(path))


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m firmware_sim.images",
        description="Build a real MCUboot image with imgtool.",
    )
    parser.add_argument("out", type=Path, help="file to write")
    parser.add_argument("--version", required=True, help="2.4.1 or 2.4.1.7")
    parser.add_argument("--size", type=int, default=60000, help="bytes in all, about (60000)")
    parser.add_argument("--seed", default="0", help="the same seed gives the same body")
    parser.add_argument(
        "--address", type=lambda text: int(text, 0), help="linked for this place in flash"
    )
    parser.add_argument("--key", type=Path, help="ECDSA or RSA key (PEM); made when missing")
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = _arguments()
    options = parser.parse_args(argv)
    if options.key is not None and not options.key.exists():
        make_key(options.key)
    try:
        data = build_image(
            options.version, options.size, options.seed, options.key, options.address
        )
    except ValueError as error:
        parser.error(str(error))
    partial = options.out.with_name(options.out.name + ".part")
    partial.write_bytes(data)
    os.replace(partial, options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
