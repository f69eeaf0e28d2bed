"""`roundsman cloud|gateway|sim`: hands over to the program, which has its own options."""

import os
import sys
from importlib.util import find_spec
from typing import Final

import typer

from roundsman.cli.failures import Exit, Failure

# What each extra brings, by the modules its program imports first.
NEEDS: Final = {
    "cloud": ("cloud", ("fastapi", "uvicorn", "sqlmodel", "alembic", "aiomqtt")),
    "gateway": ("gateway", ("aiomqtt", "serial", "cbor2")),
    "sim": ("firmware_sim", ("paho", "cbor2", "imgtool")),
}


def program_command(name: str) -> list[str]:
    """The command that starts a program. Raises Failure naming the extra that is missing."""
    package, modules = NEEDS[name]
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise Failure(
            f"The {name} is not installed completely: there is no {', '.join(missing)}",
            f"pip install 'roundsman[{name}]'",
        )
    # -P: a folder called `cloud` where the user stands is not our program.
    return [sys.executable, "-P", "-m", package]


def _app(name: str, help: str, example: str) -> typer.Typer:
    app = typer.Typer(rich_markup_mode=None, add_completion=False)

    def hand_over(ctx: typer.Context) -> None:
        command = [*program_command(name), *ctx.args]
        sys.stdout.flush()
        try:
            os.execv(command[0], command)
        except OSError as error:
            raise Failure(f"{command[0]}: {error.strerror}", code=Exit.FAILURE) from error

    app.command(
        name,
        help=help,
        epilog=f"\b\nExample:\n  {example}",
        add_help_option=False,  # the program answers --help itself
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )(hand_over)
    return app


apps: Final = {
    "cloud": _app("cloud", "Start the cloud.", "roundsman cloud configs/cloud.yaml"),
    "gateway": _app("gateway", "Start a gateway.", "roundsman gateway configs/gateway.yaml"),
    "sim": _app("sim", "Start simulated devices.", "roundsman sim scenario.yaml --dir /tmp/sim"),
}
