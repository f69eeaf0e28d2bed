"""YAML text to values that know their lines: a composer over the parser's events, with bounds.

JSON is read by the same rules, being YAML. Depth, size and the copies made by aliases are bounded
while reading, so no document can hang the reader or fill memory.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

MAX_TEXT: Final = 4_000_000
MAX_DEPTH: Final = 64
MAX_NODES: Final = 200_000
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class DocumentBroken(ValueError):
    """The text is not one document of plain values; lines and columns count from 1."""

    def __init__(self, message: str, line: int = 1, column: int = 1, path: str = "") -> None:
        self.message = message
        self.line = line
        self.column = column
        self.path = path
        super().__init__(message)


@dataclass(slots=True)
class Node:
    """A value with its place. `parts` are the nodes below, by key or by index."""

    value: Any
    line: int
    column: int
    is_plain: bool = False
    parts: "dict[str | int, Node]" = field(default_factory=dict)
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    size: int = 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where a problem is: the deepest node found, its keys, and where its own key stands."""

    node: Node
    keys: tuple[str | int, ...]
    key_line: int
    key_column: int

    @property
    def path(self) -> str:
        return key_path(self.keys)


_PLAIN_KEY: Final = re.compile(r"[\w$-]+")


def key_path(keys: tuple[str | int, ...]) -> str:
    """Write keys as people do: `steps[2].with.image`."""
    text = ""
    for key in keys:
        if isinstance(key, int):
            text += f"[{key}]"
        elif _PLAIN_KEY.fullmatch(key):
            text += f".{key}" if text else key
        else:
            text += f'["{key[:60]}"]'
    return text


_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final = {
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_INTEGER: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)", re.ASCII)
_BASED: Final = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(
    r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII
)


def plain_value(text: str) -> Any:
    """Read a scalar without quotes by the core schema of YAML 1.2; leading zeros make text.

    Raises ValueError for a number that is not finite or has thousands of digits.
    """
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if not math.isfinite(number):
            raise ValueError("the number is too large")
        return number
    return text


class _Composer:
    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._anchors: dict[str, Node] = {}
        self._nodes = 0

    def compose(self) -> Node:
        roots: list[Node] = []
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent) and roots:
                raise _broken("a second document; write one per file", event)
            if isinstance(event, yaml.NodeEvent):
                roots.append(self._node(event, 0))
        if not roots or (roots[0].value is None and roots[0].is_plain):
            raise DocumentBroken("the document is empty")
        return roots[0]

    def _node(self, event: Any, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise _broken(f"nested deeper than {MAX_DEPTH} levels", event)
        if isinstance(event, yaml.AliasEvent):
            known = self._anchors.get(event.anchor or "")
            if known is None:
                raise _broken(f"there is no anchor `&{event.anchor}` before this", event)
            self._count(known.size, event)
            return known
        self._count(1, event)
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(event, depth)
        else:
            node = self._mapping(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _count(self, nodes: int, event: Any) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _broken(f"more than {MAX_NODES:,} values, aliases counted in full", event)

    def _scalar(self, event: Any) -> Node:
        node = Node(event.value, *_position(event))
        if event.tag in ("!", "tag:yaml.org,2002:str"):
            return node
        if event.tag is not None:
            raise _broken(f"tags such as `{event.tag[:60]}` are not used here", event)
        if not event.style and event.implicit[0]:
            try:
                node.value = plain_value(event.value)
            except ValueError as error:
                raise _broken("the number is too large", event) from error
            node.is_plain = True
        return node

    def _sequence(self, event: Any, depth: int) -> Node:
        _untagged(event, "tag:yaml.org,2002:seq")
        node = Node([], *_position(event))
        for item in self._events:
            if isinstance(item, yaml.SequenceEndEvent):
                break
            part = self._node(item, depth + 1)
            node.parts[len(node.value)] = part
            node.value.append(part.value)
            node.size += part.size
        return node

    def _mapping(self, event: Any, depth: int) -> Node:
        _untagged(event, "tag:yaml.org,2002:map")
        node = Node({}, *_position(event))
        for item in self._events:
            if isinstance(item, yaml.MappingEndEvent):
                break
            key = self._key(item, node)
            part = self._node(next(self._events), depth + 1)
            node.parts[key] = part
            node.keys[key] = _position(item)
            node.value[key] = part.value
            node.size += part.size + 1
        return node

    def _key(self, event: Any, node: Node) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise _broken("a key is plain text", event)
        self._count(1, event)
        key = str(event.value)
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            raise _broken(f"tags such as `{event.tag[:60]}` are not used here", event)
        if key == "<<" and not event.style:
            raise _broken("merge keys `<<` are not part of YAML 1.2; write the keys out", event)
        if key in node.keys:
            raise _broken(
                f"key `{key[:60]}` stands twice, first on line {node.keys[key][0]}", event
            )
        return key


def _untagged(event: Any, own: str) -> None:
    if event.tag not in (None, "!", own):
        raise _broken(f"tags such as `{event.tag[:60]}` are not used here", event)


def _position(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _broken(message: str, event: Any) -> DocumentBroken:
    return DocumentBroken(message, *_position(event))


_ESCAPES: Final = re.compile(
    r"\\\\|\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|^\t+", re.MULTILINE
)


def _json_as_yaml(text: str) -> str:
    # JSON writes letters beyond 16 bits as two escapes and may be indented with tabs. YAML's
    # parser takes neither.
    if text.lstrip()[:1] not in ("{", "["):
        return text

    def written(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0].replace("\t", " ")
        code = 0x10000 + ((int(match[1], 16) - 0xD800) << 10) + int(match[2], 16) - 0xDC00
        return f"\\U{code:08X}"

    return _ESCAPES.sub(written, text)


def compose(text: str) -> Node:
    """Read one YAML or JSON document; raises DocumentBroken."""
    if len(text) > MAX_TEXT:
        raise DocumentBroken(f"the document has more than {MAX_TEXT:,} characters")
    try:
        return _Composer(iter(yaml.parse(_json_as_yaml(text), Loader=_LOADER))).compose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(filter(None, (error.context, error.problem)))
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise DocumentBroken(f"not YAML: {said}", line, column) from error
    except yaml.YAMLError as error:
        raise DocumentBroken(f"not YAML: {str(error).splitlines()[0]}") from error
    except UnicodeError as error:
        raise DocumentBroken("the text holds half a character (a lone surrogate)") from error


def locate(root: Node, loc: tuple[str | int, ...]) -> Place:
    """Find the node a pydantic error speaks of.

    Such a place also names the members of unions, which stand nowhere in the document; of all ways
    to walk it, the one is taken that skips the fewest names.
    """
    return _walk(root, loc)[0]


def labels(root: Node, loc: tuple[str | int, ...]) -> tuple[int, ...]:
    """Return the indexes in `loc` that stand nowhere in the document, as `locate` walks it."""
    return _walk(root, loc)[1]


def _walk(root: Node, loc: tuple[str | int, ...]) -> tuple[Place, tuple[int, ...]]:
    known: dict[tuple[int, int], tuple[int, tuple[int, ...]]] = {}

    def best(node: Node, index: int) -> tuple[int, tuple[int, ...]]:
        if index == len(loc):
            return 0, ()
        memo = (id(node), index)
        if memo not in known:
            cost, skipped = best(node, index + 1)
            # A name missing at the end costs less below an object: that is where it is missing.
            last = index == len(loc) - 1 and isinstance(node.value, dict)
            choice = cost + (1 if last else 2), (index, *skipped)
            if loc[index] in node.parts:
                choice = min(choice, best(node.parts[loc[index]], index + 1))
            known[memo] = choice
        return known[memo]

    skipped = best(root, 0)[1]
    node, place = root, (root.line, root.column)
    keys: tuple[str | int, ...] = ()
    for index, name in enumerate(loc):
        if index in skipped:
            continue
        place = node.keys.get(str(name)) or (node.parts[name].line, node.parts[name].column)
        node, keys = node.parts[name], (*keys, name)
    return Place(node, keys, *place), skipped
