"""The root command. A noun is imported when it is named, so `--help` answers at once."""

from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_command

PROGRAMS: Final = {
    "cloud": "Start the cloud: the coordinator with its API and console.",
    "gateway": "Start a gateway: the edge process that runs the steps.",
    "sim": "Start simulated devices that behave, and misbehave.",
    "demo": "Start everything on this machine and update 24 devices.",
}
NOUNS: Final = {
    "jobs": "Definitions: create, read and run them.",
    "runs": "Executions of a job: follow, wait, cancel, report.",
    "tasks": "One target's part of a run.",
    "devices": "What is updated and commanded.",
    "gateways": "The edge processes.",
    "holds": "What nothing new may start on.",
    "emergency": "Stop everything new in the whole org, and release it.",
    "groups": "Groups of devices or users.",
    "users": "People whom jobs are about.",
    "tables": "Data tables and their rows.",
    "secrets": "Named secrets that steps use.",
    "ca": "Who signs the certificates of devices.",
    "recovery": "A cloud that was restored from a backup.",
    "audit": "Who did what, and when.",
    "artifacts": "Firmware images and other immutable files.",
    "profiles": "What gateways know of device families.",
    "doctor": "Check address, token and versions, and say what to do.",
}
MODULES: Final = {"cloud": "programs", "gateway": "programs", "sim": "programs"}


class Root(TyperGroup):
    """Knows its commands' names and one-line helps without importing them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*PROGRAMS, *NOUNS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in PROGRAMS and cmd_name not in NOUNS:
            return None
        module = import_module(f"roundsman.cli.{MODULES.get(cmd_name, cmd_name)}")
        app = module.apps[cmd_name] if cmd_name in MODULES else module.app
        command = get_command(app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, rows in (("Programs", PROGRAMS), ("Nouns", NOUNS)):
            with formatter.section(title):
                formatter.write_dl([(name.ljust(9), text) for name, text in rows.items()])

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("\nInterrupted.", err=True)
            raise typer.Exit(130) from None
        except Exception as error:
            from roundsman.cli.failures import report

            code = report(error, as_json=_wants_json(ctx))
            if code is None:
                raise
            raise typer.Exit(code) from None


def _wants_json(ctx: Any) -> bool:
    from roundsman.cli.options import Flags, Format

    flags = ctx.find_object(Flags)
    return flags is not None and flags.output in (Format.JSON, Format.NDJSON)


root = typer.Typer(
    cls=Root,
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"max_content_width": 100},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"roundsman {version('roundsman')}")
        raise typer.Exit


@root.callback(
    epilog="\b\nStart here:\n  roundsman demo\n  roundsman jobs create -f job.yaml --watch\n\n"
    "\b\nSettings: --url, --token; else ROUNDSMAN_URL, ROUNDSMAN_TOKEN; else\n"
    "~/.config/roundsman/config.toml."
)
def _root(
    ctx: typer.Context,
    url: Annotated[str | None, typer.Option(help="Address of the service.")] = None,
    token: Annotated[str | None, typer.Option(help="Token; better in ROUNDSMAN_TOKEN.")] = None,
    server: Annotated[str | None, typer.Option(help="A server of the config file.")] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="table, json or ndjson.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Firmware, certificate and command jobs for fleets of devices behind edge gateways."""
    from roundsman.cli.options import Flags, as_format

    flags = ctx.ensure_object(Flags)
    flags.url, flags.token, flags.server = url, token, server
    flags.output = as_format(output)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Exit codes: `roundsman.cli.failures.Exit`."""
    get_command(root)(arguments, prog_name="roundsman")
