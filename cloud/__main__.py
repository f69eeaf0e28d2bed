"""`python -m cloud [CONFIG.yaml]`: the coordinator as a process."""

import argparse
import sys
from pathlib import Path
from uuid import uuid4

import uvloop

from cloud.errors import CloudError, SettingsInvalid
from cloud.logs import configure_logs
from cloud.settings import read_settings

EXIT_FAILED = 1
EXIT_SETTINGS = 2


def main(arguments: list[str] | None = None) -> int:
    """Run the cloud until it is told to stop. Returns the exit code: 2 for bad settings."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] in (["backup"], ["restore"]):
        return _keep(given)
    parser = argparse.ArgumentParser(
        prog="roundsman cloud",
        description="The coordinator: API, console, dispatch and ingest.",
        epilog="`roundsman cloud backup FILE` and `roundsman cloud restore [FILE]` keep the "
        "database and bring it back; each has its own --help.",
    )
    parser.add_argument("config", nargs="?", type=Path, help="settings, a YAML file")
    parser.add_argument("--check", action="store_true", help="check the settings and end")
    parser.add_argument(
        "--token-file",
        type=Path,
        help="write the administrator's token here too (mode 0600), at the first start",
    )
    options = parser.parse_args(given)
    try:
        settings = read_settings(options.config)
    except SettingsInvalid as error:
        return _failed(error)
    if options.check:
        sys.stdout.write(f"{options.config or 'the defaults'}: good\n")
        return 0
    configure_logs(settings.log.level, settings.log.format)
    from cloud.app import run_cloud  # here: --check and bad settings answer at once

    try:
        uvloop.run(run_cloud(settings, options.token_file))
    except (CloudError, BaseExceptionGroup) as error:
        return _failed(_expected(error))
    return 0


def _keep(arguments: list[str]) -> int:
    """`backup` and `restore`, in the words of one line."""
    from cloud import backups  # here: the service does not need them

    options = backups.options().parse_args(arguments)
    try:
        settings = read_settings(options.config)
        if options.command == "backup":
            backups.backup(settings, options.file)
            sys.stdout.write(f"{options.file}: the database as it was just now\n")
            return 0
        aside = backups.restore(settings, options.file, str(uuid4()))
    except CloudError as error:
        return _failed(error)
    sys.stdout.write("restored: started now, the cloud waits for its gateways\n")
    if aside is not None:
        sys.stdout.write(f"the database before is {aside}\n")
    return 0


def _expected(error: BaseException) -> CloudError:
    """The error of ours in a group; anything else is a mistake and is raised."""
    if isinstance(error, BaseExceptionGroup):
        ours = error.subgroup(CloudError)
        if ours is None:
            raise error
        return _expected(ours.exceptions[0])
    assert isinstance(error, CloudError)
    return error


def _failed(error: CloudError) -> int:
    sys.stderr.write(f"roundsman cloud: {error}\n")
    return EXIT_SETTINGS if isinstance(error, SettingsInvalid) else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
