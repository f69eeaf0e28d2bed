"""What installed packages bring to this gateway: drivers, actions with their steps, profiles."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import Traversable
from importlib.metadata import entry_points
from importlib.resources import files
from types import ModuleType
from typing import cast

from contract import plugins
from contract.plugins import EntryPoint, PlugInBroken
from contract.steps import VERBS, load_verbs
from gateway.actions.base import Action
from gateway.actions.registry import ACTIONS
from gateway.drivers.registry import Drivers

Find = Callable[[str], Iterable[EntryPoint]]


def installed(group: str) -> Iterable[EntryPoint]:
    """The entry points of a group, of every package that is installed beside us."""
    return entry_points(group=group)


@dataclass(frozen=True)
class PlugIns:
    """`problems` name what is installed and cannot be used; all else goes on without it."""

    drivers: Drivers
    actions: Mapping[str, Action]
    profiles: Sequence[Traversable]
    problems: Sequence[str]


def load_plug_ins(find: Find = installed) -> PlugIns:
    """Load all but the drivers, which are imported when a device names them."""
    problems = load_verbs(find(plugins.STEPS))
    actions = dict(ACTIONS)
    for point in plugins.by_name(find(plugins.ACTIONS)).values():
        try:
            actions[point.name] = _action(point)
        except PlugInBroken as error:
            problems.append(str(error))
    folders: list[Traversable] = []
    for point in plugins.by_name(find(plugins.PROFILES)).values():
        try:
            package = plugins.load_plug_in(point, ModuleType, "profiles")
        except PlugInBroken as error:
            problems.append(str(error))
        else:
            folders.append(files(package))
    return PlugIns(Drivers(find(plugins.DRIVERS)), actions, folders, problems)


def _action(point: EntryPoint) -> Action:
    named = f"action `{point.name}` ({point.value})"
    if point.name in ACTIONS:
        raise PlugInBroken(f"{named}: that is one of our own")
    verb = VERBS.get(point.name)
    if verb is None:
        raise PlugInBroken(f"{named}: no step of that name is installed ({plugins.STEPS})")
    found = plugins.load_any(point, "action")
    if not callable(getattr(found, "perform", None)):
        raise PlugInBroken(f"{named} has no method `perform`")
    if getattr(found, "after_restart", None) is not verb.after_restart:
        raise PlugInBroken(
            f"{named}: its after_restart is not `{verb.after_restart}`, as its step says"
        )
    return cast(Action, found)
