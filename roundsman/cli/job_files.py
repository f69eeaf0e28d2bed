"""A job file, checked before it is sent: the same errors, at the same places, as the service's."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, JsonValue

from contract import plugins
from contract.document_nodes import Node, compose, locate
from contract.document_problems import DocumentInvalid, Problem
from contract.documents import load, load_value
from contract.http.problems import ProblemItem
from contract.job_document import JobDocument, Place, problems
from contract.steps import OUR_NAMESPACES, load_verbs
from roundsman.cli.failures import DocumentRefused, Exit, Failure
from roundsman.errors import BadRequest

_KEY: Final = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


def read_text(path: Path) -> tuple[str, str]:
    """A file's text and the name errors call it by; `-` is standard input."""
    try:
        if str(path) == "-":
            return sys.stdin.read(), "<stdin>"
        return path.read_text(encoding="utf-8"), str(path)
    except UnicodeDecodeError as error:
        raise Failure(f"{path}: not UTF-8: {error.reason}", code=Exit.USAGE) from None


def check_job(text: str, source: str) -> JobDocument:
    """Read a job. Raises DocumentInvalid with every problem that can be seen from here."""
    load_verbs(entry_points(group=plugins.STEPS))  # what is wrong with one, its programs say
    document = load(text, JobDocument, source)
    found = [item for item in problems(document) if not _is_for_the_service(document, item[0])]
    if found:
        root = compose(text)
        places = [(locate(root, tuple(place)), str(place), message) for place, message in found]
        raise DocumentInvalid(
            [
                Problem(source, at.node.line, at.node.column, key, message)
                for at, key, message in places
            ]
        )
    return document


def _is_for_the_service(document: JobDocument, place: Place) -> bool:
    """A verb of a package that is not installed here: the service may well have it."""
    if place[-1:] != ("uses",):
        return False
    value: Any = document
    for key in place:
        value = getattr(value, str(key)) if isinstance(value, BaseModel) else value[key]
    return str(value).partition(".")[0] not in OUR_NAMESPACES


@contextmanager
def naming(text: str, source: str) -> Iterator[None]:
    """What the service finds wrong is said with the user's own file name, line and column."""
    try:
        yield
    except BadRequest as error:
        problem = error.problem
        if not problem.errors:
            raise
        root = compose(text)
        placed = [_placed(item, root) for item in problem.errors]
        raise DocumentRefused(problem.model_copy(update={"errors": placed}), source) from error


def _placed(item: ProblemItem, root: Node) -> ProblemItem:
    if item.line is not None or not item.key:
        return item
    keys = tuple(int(i) if i else name for i, name in _KEY.findall(item.key))
    place = locate(root, keys)
    return item.model_copy(update={"line": place.node.line, "column": place.node.column})


def read_context(pairs: list[str], file: Path | None) -> dict[str, JsonValue] | None:
    """The context of `--context k=v` (values as in YAML) or of a file; None when neither is."""
    if file is not None:
        if pairs:
            raise Failure("Give --context or --context-file, not both", code=Exit.USAGE)
        value = load_value(*read_text(file))
        if not isinstance(value, dict):
            raise Failure(f"{file}: a context is an object of names and values", code=Exit.USAGE)
        return value
    if not pairs:
        return None
    context: dict[str, JsonValue] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not key or not equals:
            raise Failure(f"--context {pair}: write name=value", code=Exit.USAGE)
        context[key] = load_value(text, f"--context {key}") if text.strip() else text
    return context
