"""The wire is locked: messages of every past release still mean what they meant.

`python -m tests.golden.test_records RELEASE` writes the records of a release, once, when it is
made. Records are never changed afterwards; a new field makes a new release's records.
"""

import json
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from contract.messages import encode, parse
from contract.topics import Kind
from tests.golden.samples import SAMPLES

RECORDS = Path(__file__).parent / "records"


def _records() -> Iterator[tuple[str, Kind, dict[str, object], bytes]]:
    for file in sorted(RECORDS.glob("*/*.jsonl")):
        for line in file.read_text().splitlines():
            record = json.loads(line)
            yield file.parent.name, Kind(file.stem), record["fields"], record["bytes"].encode()


@pytest.mark.parametrize(
    ("release", "kind", "fields", "payload"),
    [pytest.param(*record, id=f"{record[0]}-{record[1]}") for record in _records()],
)
def test_a_recorded_message_still_means_the_same(
    release: str, kind: Kind, fields: dict[str, object], payload: bytes
) -> None:
    decoded = parse(kind, payload).model_dump(mode="json", by_alias=True, exclude_defaults=True)
    assert decoded == fields


@pytest.mark.parametrize("kind", list(Kind))
def test_this_release_writes_the_bytes_it_recorded(kind: Kind) -> None:
    recorded = [
        p for release, k, _, p in _records() if (release, k) == (version("roundsman"), kind)
    ]
    assert recorded == [encode(SAMPLES[kind])]


def write(release: str) -> None:
    folder = RECORDS / release
    folder.mkdir(parents=True, exist_ok=True)
    for kind, message in SAMPLES.items():
        fields = message.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        record = {"fields": fields, "bytes": encode(message).decode()}
        (folder / f"{kind}.jsonl").write_text(json.dumps(record, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write(sys.argv[1])
