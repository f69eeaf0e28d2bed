"""Batch iteration: what a task about several targets can hold and do, checked when a job is saved.

Such a task has no device of its own. The central gateway performs it and finds the documents of
its targets as `targets`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from contract.template_dialect import TemplateInvalid, check, check_expression

# As many as `flow.for_each` takes items.
MAX_BATCH_TARGETS: Final = 1_000
ON_DEVICES: Final = frozenset({"device", "firmware", "certificate"})
Keys = tuple[str | int, ...]


def batch_size(batch: int | str) -> int:
    """The targets that a task holds at most; `all` is as many as one task can hold."""
    return batch if isinstance(batch, int) else MAX_BATCH_TARGETS


def batch_problems(document: Mapping[str, Any]) -> Iterator[tuple[Keys, str]]:
    """What cannot be done with `batch`, and `targets` without it; of a job as JSON.

    The JSON leaves out what holds its default.
    """
    batch = "batch" in document.get("iteration", {})
    if batch:
        yield from _of_document(document)
    steps = document["steps"]
    lists = steps if isinstance(steps, dict) else {"": steps}
    for name, listed in lists.items():
        at = ("steps", name) if isinstance(steps, dict) else ("steps",)
        for index, step in enumerate(listed):
            yield from _of_step((*at, index), step, batch)


def _of_document(document: Mapping[str, Any]) -> Iterator[tuple[Keys, str]]:
    iteration, targets = document["iteration"], document.get("targets", {})
    for name in ("per_gateway", "per_bus", "per_site"):
        if iteration.get(name) is not None:
            text = "with `iteration.batch` all tasks run on the central gateway: use `concurrency`"
            yield ("iteration", name), text
    if targets.get("items") is not None:
        yield ("targets", "items"), "listed items are one task each: they have no `iteration.batch`"
    if targets.get("continuous"):
        text = "later targets cannot join a task that is under way: no `iteration.batch` here"
        yield ("targets", "continuous"), text
    if document.get("retry", {}).get("when") == "online":
        yield ("retry", "when"), "with `iteration.batch` a task has no device that could be online"
    acknowledge, at = iteration.get("acknowledge"), ("iteration", "acknowledge", "explicit")
    explicit = acknowledge["explicit"] if isinstance(acknowledge, dict) else {}
    texts: list[tuple[Keys, str | None, bool]] = [
        (("accumulator",), document.get("accumulator"), False),
        ((*at, "topic"), explicit.get("topic"), False),
        ((*at, "match"), explicit.get("match"), True),
    ]
    for place, written, bare in texts:
        if written is not None and "target" in (check_expression if bare else check)(written):
            yield place, "a task of several targets knows `targets`, not `target`"


def _of_step(at: Keys, step: Mapping[str, Any], batch: bool) -> Iterator[tuple[Keys, str]]:
    inner = step.get("with", {}).get("step") if step["uses"] == "flow.for_each" else None
    looped = inner if isinstance(inner, dict) else {}
    used = [((*at, "uses"), step["uses"]), ((*at, "with", "step", "uses"), looped.get("uses"))]
    for place, uses in used:
        if batch and isinstance(uses, str) and uses.partition(".")[0] in ON_DEVICES:
            text = f"`{uses}` needs a device, and a task of several targets has none"
            yield place, f"{text}; leave out `iteration.batch`"
    wrong, right = ("target", "targets") if batch else ("targets", "target")
    why = "of several targets" if batch else "of one target (`iteration.batch` is 1)"
    for place, names in _names(at, step, looped):
        if wrong in names:
            yield place, f"a task {why} knows `{right}`, not `{wrong}`"


def _names(
    at: Keys, step: Mapping[str, Any], looped: Mapping[str, Any]
) -> Iterator[tuple[Keys, set[str]]]:
    """The names that a step reads, by place; what is no template is somebody else's to say."""
    given = step.get("with", {})
    expressions: list[tuple[Keys, Any]] = [
        ((*at, "when"), step.get("when")),
        ((*at, "expect"), step.get("expect")),
        *(((*at, "with", "step", name), looped.get(name)) for name in ("when", "expect")),
    ]
    if step["uses"] == "flow.for_each":
        expressions.append(((*at, "with", "next"), given.get("next")))
    if step["uses"] == "flow.check":
        expressions.append(((*at, "with", "that"), given.get("that")))
    for place, text in expressions:
        if isinstance(text, str):
            try:
                yield place, set(check_expression(text))
            except TemplateInvalid:
                continue
    for place, text in _texts((*at, "with"), given):
        try:
            yield place, set(check(text))
        except TemplateInvalid:
            continue
    if step.get("key") is not None:
        yield (*at, "key"), set(check(step["key"]))


def _texts(at: Keys, value: Any) -> Iterator[tuple[Keys, str]]:
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts((*at, key), inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts((*at, index), inner)
