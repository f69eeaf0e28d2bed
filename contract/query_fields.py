"""Which fields a query may name for each kind of target, and the groups it names.

A query about an unknown field is a mistake that would silently match nothing, so it is refused
before anything starts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Final, assert_never

from contract.query import (
    And,
    Compare,
    Exists,
    In,
    Like,
    Member,
    Not,
    Or,
    Path,
    Query,
    QueryInvalid,
)

# resource -> its plain columns, and the objects whose keys may be anything
FIELDS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "device": (("id", "type", "gateway", "name"), ("tags", "attributes", "state")),
    "gateway": (("id", "type", "name", "version"), ("tags", "attributes", "state")),
    "group": (("id", "type", "name", "resource"), ("tags", "attributes")),
    "user": (("id", "type", "name", "email", "phone"), ("tags", "attributes")),
}
GROUPED: Final = ("device", "user")
MAX_GROUPS: Final = 100
MAX_GROUP_DEPTH: Final = 16


def nodes(query: Query) -> Iterator[Query]:
    """Every node of a query, a parent before its parts."""
    waiting: list[Query] = [query]
    while waiting:
        node = waiting.pop()
        yield node
        match node:
            case And(parts) | Or(parts):
                waiting.extend(parts)
            case Not(part):
                waiting.append(part)


def check_fields(query: Query, resource: str, columns: Sequence[str] | None = None) -> None:
    """Raise QueryInvalid for a field that targets of this kind do not have.

    `columns` are those of the data table for rows; None or none at all allows any.
    """
    for node in nodes(query):
        match node:
            case Compare(path) | In(path) | Exists(path) | Like(path):
                _check_path(path, resource, columns)
            case Member():
                if resource not in GROUPED:
                    raise QueryInvalid("group", f"a {resource} is a member of no group")


def _check_path(path: Path, resource: str, columns: Sequence[str] | None) -> None:
    where = ".".join(path)
    if resource == "row":
        if columns and path[0] not in (*columns, "id"):
            raise QueryInvalid(where, _unknown(path[0], (*columns, "id"), "the table"))
        return
    plain, sections = FIELDS[resource]
    if path[0] in sections:
        if len(path) == 1:
            raise QueryInvalid(where, f"say which of the {path[0]}: {path[0]}.site")
        return
    if path[0] not in plain:
        known = (*plain, *(f"{section}.*" for section in sections))
        if resource in GROUPED:
            known = (*known, "group")
        raise QueryInvalid(where, _unknown(path[0], known, f"a {resource}"))
    if len(path) > 1:
        raise QueryInvalid(where, f"`{path[0]}` is a plain value and has no fields")


def _unknown(name: str, known: Sequence[str], what: str) -> str:
    names = [word.removesuffix(".*") for word in known]
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"; did you mean `{near[0]}`?" if near else ""
    return f"{what} has no field `{name}`{hint} (known: {', '.join(known[:30])})"


class GroupCycle(QueryInvalid):
    """Groups that are defined by each other."""

    def __init__(self, chain: Sequence[str]) -> None:
        super().__init__("group", f"groups are defined by each other: {' -> '.join(chain)}")


def expand_groups(query: Query, saved: Callable[[str], Query | None]) -> Query:
    """The query with every group that is a saved query replaced by that query.

    `saved` gives a group's query, None for one with listed members, and raises what it likes for
    one that does not exist. Raises QueryInvalid, and GroupCycle.
    """
    return _Expander(saved).expand(query, ())


class _Expander:
    def __init__(self, saved: Callable[[str], Query | None]) -> None:
        self._saved = saved
        self._seen = 0

    def expand(self, query: Query, chain: tuple[str, ...]) -> Query:
        match query:
            case And(parts):
                return And(tuple(self.expand(part, chain) for part in parts))
            case Or(parts):
                return Or(tuple(self.expand(part, chain) for part in parts))
            case Not(part):
                return Not(self.expand(part, chain))
            case Compare() | In() | Exists() | Like():
                return query
            case Member(groups):
                return self._member(groups, chain)
            case _:
                assert_never(query)

    def _member(self, groups: tuple[str, ...], chain: tuple[str, ...]) -> Query:
        listed: list[str] = []
        found: list[Query] = []
        for group in groups:
            self._seen += 1
            if self._seen > MAX_GROUPS or len(chain) >= MAX_GROUP_DEPTH:
                raise QueryInvalid("group", f"a query reaches more than {MAX_GROUPS} groups")
            if group in chain:
                raise GroupCycle([*chain, group])
            query = self._saved(group)
            if query is None:
                listed.append(group)
            else:
                found.append(self.expand(query, (*chain, group)))
        if listed or not found:
            found.insert(0, Member(tuple(listed)))
        return found[0] if len(found) == 1 else Or(tuple(found))
