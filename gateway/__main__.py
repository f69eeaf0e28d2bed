"""`python -m gateway CONFIG.yaml`: run a gateway, or check its configuration with `--check`."""

import argparse
import os
import sys
from pathlib import Path

from gateway.app import cloud_tls, profiles_folder, run
from gateway.device_settings import port_advice, read_profiles
from gateway.errors import CloudRefused, SettingsInvalid, StorageFull
from gateway.logs import configure_logs
from gateway.plugins import load_plug_ins
from gateway.settings import read_settings
from gateway.transports.databases import Databases

EXIT_FAILED = 1
EXIT_INVALID = 2
# EX_TEMPFAIL of sysexits.h: whoever watches over us is to start us again.
EXIT_RESTART = 75


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code.

    0 in good order, 1 for a failure, 2 for invalid settings, 75 to be started again.
    """
    parser = argparse.ArgumentParser(prog="roundsman gateway", description="Run a gateway.")
    parser.add_argument("config", type=Path, help="settings, such as configs/gateway.yaml")
    parser.add_argument("--check", action="store_true", help="only check the settings, and say")
    parser.add_argument(
        "--new-journal", action="store_true", help="if the journal is damaged, move it aside"
    )
    given = parser.parse_args(arguments)
    try:
        plug_ins = load_plug_ins()
        settings = read_settings(given.config, os.environ, plug_ins.drivers)
        if given.check:
            broken = {device.broken for device in settings.devices if device.broken}
            if broken or plug_ins.problems:
                raise SettingsInvalid("\n".join([*sorted(broken), *plug_ins.problems]))
            deployed = profiles_folder(settings)
            profiles = read_profiles(
                settings.profiles, settings.devices, plug_ins.profiles, deployed
            )
            settings.token()
            if settings.sms is not None:
                settings.sms.hook()
            Databases.of(settings.databases)
            cloud_tls(settings)
            for name, why in profiles.unusable.items():
                print(f"{given.config}: deployed profile `{name}` is not used: {why}")
            for why in profiles.missing.values():
                print(f"{given.config}: {why}; it is down until one is deployed")
            for advice in port_advice(settings.devices):
                print(f"{given.config}: {advice}")
            print(f"{given.config}: fine, {len(settings.devices)} devices")
            return 0
        configure_logs(settings.log.level, settings.log.format)
        if run(settings, plug_ins, given.new_journal):
            return EXIT_RESTART
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
