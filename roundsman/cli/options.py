"""What all commands share: the options every one of them takes, and how one is declared."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand
from typer.main import get_command

F = TypeVar("F", bound=Callable[..., Any])


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"


@dataclass
class Flags:
    """What was given before or after the verb; None where nothing was."""

    url: str | None = None
    token: str | None = None
    server: str | None = None
    output: Format | None = None


def as_format(text: str | None) -> Format | None:
    try:
        return None if text is None else Format(text)
    except ValueError:
        raise typer.BadParameter(f"`{text}` is none of {', '.join(Format)}") from None


def read_time(text: str) -> datetime:
    """A time with its zone, in ISO 8601. Raises ValueError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"`{text}` is no time such as 2027-01-31T22:00+01:00") from None
    if found.tzinfo is None:
        raise ValueError(f"`{text}` needs its zone, such as {text}Z")
    return found


def _keep(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    if value is not None:
        flags = ctx.ensure_object(Flags)
        setattr(flags, param.name or "", as_format(value) if param.name == "output" else value)
    return value


_shared = typer.Typer(add_completion=False)


@_shared.command()
def _take(
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", callback=_keep, expose_value=False, help="table, json or ndjson."
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(callback=_keep, expose_value=False, help="Address of the service."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(callback=_keep, expose_value=False, help="Token; better in ROUNDSMAN_TOKEN."),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(callback=_keep, expose_value=False, help="A server of the config file."),
    ] = None,
) -> None:
    """The shared options, as typer makes them; never run."""


class Command(TyperCommand):
    """A command that takes the shared options after its verb too."""

    def __init__(self, *args: Any, params: list[Any] | None = None, **kwargs: Any) -> None:
        shared = [each for each in get_command(_shared).params if each.name != "help"]
        super().__init__(*args, params=[*(params or []), *shared], **kwargs)


def noun(help: str) -> typer.Typer:
    """A group of verbs; its help stays the only one of several commands."""
    app = typer.Typer(help=help, no_args_is_help=True, rich_markup_mode=None, add_completion=False)
    app.callback()(lambda: None)
    return app


def verb(app: typer.Typer, name: str, *examples: str) -> Callable[[F], F]:
    """Declare a command with the shared options and at least one example."""
    lines = "\n".join(f"  {each}" for each in examples)
    return app.command(
        name,
        cls=Command,
        epilog=f"\b\nExample:\n{lines}",
        context_settings={"max_content_width": 100},
    )


def flags_of(ctx: typer.Context) -> Flags:
    return ctx.ensure_object(Flags)
