"""Server-sent events as pairs of name and data. Source: the HTML standard, section 9.2."""

from collections.abc import AsyncIterator


async def read_events(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, str]]:
    """`(event, data)` for each complete event; what is cut off at the end is dropped."""
    name, data = "message", list[str]()
    async for line in lines:
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
