"""Runs harnesses under atheris: `python -m tests.fuzz [--seconds 60] [NAME ...]`.

What is found lies in `tests/fuzz/found/NAME/` afterwards, and is an example of `make test` from
then on. Each harness runs in a process of its own, which ends at its first finding.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.harness import FOUND, Harness

BINARY = (
    "smp_message",
    "smp_payload",
    "smp_certificates",
    "smp_serial",
    "line_json",
    "mcuboot",
    "modbus_rtu",
    "modbus_tcp",
    "cloud_message",
    "gateway_message",
    "aws_jobs",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=BINARY)
    parser.add_argument("--seconds", type=int, default=60, help="of each harness")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        fuzz(asked.names[0], asked.seconds)
        return 0
    failed = []
    for name in asked.names:
        print(f"== {name}: {asked.seconds} s", flush=True)
        command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(asked.seconds)]
        if subprocess.run([*command, "--inside"], check=False).returncode:
            failed.append(name)
    print("findings:", ", ".join(failed) or "none")
    return 1 if failed else 0


def fuzz(name: str, seconds: int) -> None:
    """One harness, until time is up or something is found."""
    import atheris

    with atheris.instrument_imports(include=["contract", "gateway", "cloud", "cbor2", "pymodbus"]):
        from tests.fuzz import binary

        found = {one.name: one for one in binary.HARNESSES}
        if name not in found:
            from tests.fuzz import texts

            found = {one.name: one for one in texts.HARNESSES}
    harness = found[name]

    def once(data: bytes) -> None:
        try:
            harness.run(data)
        except Exception:
            keep(harness, data)
            raise

    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate([*harness.seeds, *harness.found()]):
            (Path(folder) / f"seed-{number}").write_bytes(seed)
        limits = [f"-max_total_time={seconds}", f"-max_len={harness.max_size}", "-timeout=10"]
        quiet = ["-print_final_stats=1", "-verbosity=0", "-rss_limit_mb=1024"]
        atheris.Setup([sys.argv[0], *limits, *quiet, folder], once)
        atheris.Fuzz()


def keep(harness: Harness, data: bytes) -> None:
    folder = FOUND / harness.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(data).hexdigest()[:12]
    path.write_bytes(data)
    print(f"kept as {path}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
