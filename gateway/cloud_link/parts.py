"""A message of the cloud in parts that can be taken one by one, each with a name of its own."""

from collections.abc import Iterator
from typing import Any, Final

from contract.messages import AnyMessage, Cancel, Offer, Welcome
from contract.topics import Kind

# What differs when the same thing is said again.
_PASSING: Final = frozenset({"session", "counter", "time", "nonce", "message", "page", "pages"})


def parts_of(message: AnyMessage) -> Iterator[AnyMessage]:
    """The same message cut so that each part holds one item; taken in turn they are the whole."""
    match message:
        case Offer():
            for task in message.tasks:
                yield message.model_copy(update={"tasks": [task], "undecodable": ()})
            if message.undecodable or not message.tasks:
                yield message.model_copy(update={"tasks": []})
        case Cancel():
            for item in message.items:
                yield message.model_copy(update={"items": [item]})
        case Welcome() if message.nonce is not None:
            nothing: dict[str, list[Any]] = {"forget": [], "report": [], "cancel": []}
            yield message.model_copy(update=nothing)
            for name in nothing:
                for one in getattr(message, name):
                    yield message.model_copy(update={**nothing, name: [one]})
        case _:
            yield message


def name_of(kind: Kind, part: AnyMessage) -> str:
    """The same for a part that is said again, whatever it comes with."""
    if isinstance(part, Offer):
        tasks = " ".join(f"{task.task}/{task.attempt}" for task in part.tasks)
        return f"{kind} {tasks}"
    return f"{kind} {part.model_dump_json(exclude=set(_PASSING), exclude_defaults=True)}"
