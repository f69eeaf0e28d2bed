"""What other packages may bring, by the group of their entry points, and how one is loaded.

Nothing is looked up here: a program finds the entry points at its door and passes them in.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Protocol, TypeVar

STEPS: Final = "roundsman.steps"  # name: the verb; object: a contract.steps.Verb
ACTIONS: Final = "roundsman.actions"  # name: the verb; object: what performs it on a gateway
DRIVERS: Final = "roundsman.drivers"  # name: the driver; object: a gateway.drivers.base.DriverKind
PROFILES: Final = "roundsman.profiles"  # object: a package whose YAML files are profiles

T = TypeVar("T")


class EntryPoint(Protocol):
    """What an installed package says of one plug-in; `value` is `module:name`."""

    @property
    def name(self) -> str: ...

    @property
    def value(self) -> str: ...

    def load(self) -> object: ...


class PlugInBroken(Exception):
    """A plug-in cannot be used; the text names it and says why."""


def load_plug_in(point: EntryPoint, kind: type[T], what: str) -> T:
    """Import what an entry point names; `what` says for people what it is. Raises PlugInBroken."""
    return checked(load_any(point, what), kind, f"{what} `{point.name}` ({point.value})")


def load_any(point: EntryPoint, what: str) -> object:
    """Import what an entry point names, whatever it is. Raises PlugInBroken."""
    try:
        return point.load()
    except (Exception, SystemExit) as error:  # somebody else's module: anything may come
        why = f"{type(error).__name__}: {error}"
        raise PlugInBroken(f"{what} `{point.name}` ({point.value}) cannot load: {why}") from error


def checked(found: object, kind: type[T], named: str) -> T:
    """The loaded object, if it is of the right kind. Raises PlugInBroken."""
    if not isinstance(found, kind):
        raise PlugInBroken(f"{named} is a {type(found).__name__}, not a {kind.__name__}")
    return found


def by_name(points: Iterable[EntryPoint]) -> Mapping[str, EntryPoint]:
    """Entry points by their name; of two with one name the first stays."""
    found: dict[str, EntryPoint] = {}
    for point in points:
        found.setdefault(point.name, point)
    return found
