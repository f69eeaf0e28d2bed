"""Server-sent events as pairs of name and data. Source: the HTML standard, section 9.2."""

from collections.abc import Iterator


def read_events(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    """`(event, data)` for each complete event; what is cut off at the end is dropped."""
    name, data = "message", list[str]()
    for line in lines:
        if not line:
            if data:
                yield name, "\n".join(data)
            name, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
