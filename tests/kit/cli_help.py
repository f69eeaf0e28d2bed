"""The help of every command, and the reference page made of it."""

from typing import Any, Final

import typer
from typer.main import get_command

from roundsman.cli.app import NOUNS, PROGRAMS, root
from roundsman.cli.failures import Exit

WIDTH: Final = 100

_MEANINGS: Final = {
    Exit.OK: "well; a run that was waited for has succeeded",
    Exit.FAILURE: "something went wrong",
    Exit.USAGE: "wrong usage, or a document or request that has to be corrected",
    Exit.RUN_FAILED: "the run ended with failures",
    Exit.NOT_AUTHENTICATED: "no valid token, or one that does not allow this",
    Exit.NOT_FOUND: "there is no such thing",
    Exit.CONFLICT: "something is in the way, or somebody changed it first",
    Exit.UNREACHABLE: "the service is not there or not ready",
    Exit.STILL_PENDING: "the timeout is over and the run still goes on",
    Exit.ABORTED: "the run was cancelled or replaced",
    Exit.RATE_LIMITED: "too many requests",
    Exit.INTERRUPTED: "Ctrl-C; a run that was watched goes on",
}


def commands() -> list[tuple[str, ...]]:
    """Every command as its words, in the order of the help."""
    found: list[tuple[str, ...]] = []
    for name in (*PROGRAMS, *NOUNS):
        group: Any = _find((name,))
        verbs = group.list_commands(None) if hasattr(group, "list_commands") else []
        found += [(name, verb) for verb in verbs] or [(name,)]
    return found


def help_of(words: tuple[str, ...]) -> str:
    """What `--help` prints, always at the same width."""
    command: Any = _find(words)
    name = " ".join(("roundsman", *words))
    context = command.context_class(
        command, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH
    )
    text: str = command.get_help(context)
    return text


def _find(words: tuple[str, ...]) -> Any:
    command: Any = get_command(root)
    context: Any = typer.Context(command)
    for word in words:
        command = command.get_command(context, word)
    return command


def page() -> str:
    """The whole reference page."""
    codes = "".join(f"| {code:d} | {_MEANINGS[code]} |\n" for code in Exit)
    parts = [
        "# Command line\n",
        "Made from the commands' own help by `make docs`. `roundsman cloud`, `gateway` and `sim` "
        "hand over to the programs: `roundsman cloud --help` is the program's.\n",
        "A list is a table on a terminal, tab-separated without titles in a pipe, the API's JSON "
        "with `-o json` and one object a line with `-o ndjson`. Data goes to standard output, all "
        "talk to standard error. `NO_COLOR` is obeyed.\n",
        f"## Exit codes\n\n| code | meaning |\n|---|---|\n{codes}",
        f"## roundsman\n\n```\n{help_of(())}\n```\n",
    ]
    for words in commands():
        parts.append(f"## roundsman {' '.join(words)}\n\n```\n{help_of(words).rstrip()}\n```\n")
    return "\n".join(parts)
