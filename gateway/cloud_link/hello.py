"""The pages of a hello: who we are, what devices we have, and every attempt in the journal."""

from collections.abc import Iterator, Sequence
from typing import Final

from contract.messages import (
    MARKS_A_PAGE,
    MAX_DEVICES_A_PAGE,
    MAX_MESSAGE_BYTES,
    Hello,
    InventoryDevice,
    Part,
    TaskMark,
)

# For the fields beside the lists, and verbs and deployed profiles in the first page.
HEAD_BYTES: Final = 48 * 1024


def pages(
    head: Hello, devices: Sequence[InventoryDevice], marks: Sequence[TaskMark]
) -> list[Hello]:
    """Numbered pages, each within MAX_MESSAGE_BYTES as JSON; the first has verbs and profiles."""
    room = MAX_MESSAGE_BYTES - HEAD_BYTES
    contents = [
        *(("devices", part) for part in _parts(devices, MAX_DEVICES_A_PAGE, room)),
        *(("tasks", part) for part in _parts(marks, MARKS_A_PAGE, room)),
    ]
    contents = contents or [("tasks", [])]
    return [
        head.model_copy(
            update={
                "page": number,
                "pages": len(contents),
                "verbs": head.verbs if number == 1 else [],
                "profiles": head.profiles if number == 1 else None,
                name: part,
            }
        )
        for number, (name, part) in enumerate(contents, start=1)
    ]


def _parts(items: Sequence[Part], most: int, room: int) -> Iterator[list[Part]]:
    part: list[Part] = []
    size = 0
    for item in items:
        weight = len(item.model_dump_json(exclude_defaults=True).encode()) + 1
        if part and (len(part) >= most or size + weight > room):
            yield part
            part, size = [], 0
        part.append(item)
        size += weight
    if part:
        yield part
