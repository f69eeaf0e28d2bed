"""`python -m gateway CONFIG.yaml`: run a gateway, or check its configuration with `--check`."""

import argparse
import os
import sys
from pathlib import Path

from gateway.app import cloud_tls, run
from gateway.errors import CloudRefused, SettingsInvalid, StorageFull
from gateway.logs import configure_logs
from gateway.settings import read_profiles, read_settings

EXIT_FAILED = 1
EXIT_INVALID = 2


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0 in good order, 1 for a failure, 2 for invalid settings."""
    parser = argparse.ArgumentParser(prog="roundsman gateway", description="Run a gateway.")
    parser.add_argument("config", type=Path, help="settings, such as configs/gateway.yaml")
    parser.add_argument("--check", action="store_true", help="only check the settings, and say")
    given = parser.parse_args(arguments)
    try:
        settings = read_settings(given.config, os.environ)
        if given.check:
            read_profiles(settings)
            settings.token()
            cloud_tls(settings)
            print(f"{given.config}: fine, {len(settings.devices)} devices")
            return 0
        configure_logs(settings.log.level, settings.log.format)
        run(settings)
    except SettingsInvalid as error:
        print(error, file=sys.stderr)
        return EXIT_INVALID
    except (CloudRefused, StorageFull) as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # A thread may still wait for a connection that will never come; nothing of ours is left in it.
    os._exit(code)
