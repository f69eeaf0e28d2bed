"""`python -m firmware_sim SCENARIO.yaml`: run the devices of a scenario until told to stop."""

import argparse
import asyncio
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from contract.documents import DocumentInvalid
from firmware_sim.endpoints.connections import Connections
from firmware_sim.fleet import Experiences, Fleet, Member, assemble
from firmware_sim.recording import Recording
from firmware_sim.scenario import ScenarioInvalid, make_devices, read_scenario

EXIT_OK = 0
EXIT_INVALID = 2


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m firmware_sim",
        description="Simulated devices on real ptys and a real broker, with seeded faults.",
        epilog="Prints one line per device: id, personality, and the path it is reached by.",
    )
    parser.add_argument("scenario", type=Path, help="scenario file (YAML or JSON)")
    parser.add_argument("--broker", help="mqtt://[user:password@]host:port, over the file's")
    parser.add_argument("--dir", type=Path, help="folder of the pty links, over the file's")
    parser.add_argument("--seed", help="what goes wrong, over the file's")
    parser.add_argument(
        "--status-file", type=Path, help="JSON, rewritten every 0.4 s and at the end"
    )
    parser.add_argument(
        "--experiences", type=Path, help="JSON lines: what happened to each device, as it happens"
    )
    parser.add_argument(
        "--record", type=Path, help="JSON lines: all that devices hear and say, over the file's"
    )
    return parser


async def _run(fleet: Fleet, http: httpx.AsyncClient) -> None:
    loop = asyncio.get_running_loop()
    running = asyncio.current_task()
    assert running is not None
    for stop in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(stop, running.cancel)
    loop.add_signal_handler(signal.SIGUSR1, fleet.write_status)
    async with http:
        await fleet.run()


def _announce(members: Sequence[Member]) -> None:
    sys.stdout.writelines(
        f"{member.device.identity.id} {member.personality} {member.path}\n" for member in members
    )
    sys.stdout.flush()


def _allow_many_connections() -> None:
    """Each device on a broker is a socket, and 1,024 files is what a shell often allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 after SIGTERM or SIGINT, 2 for a scenario that cannot be played."""
    options = _arguments().parse_args(argv)
    try:
        scenario = read_scenario(options.scenario)
        if options.seed is not None:
            scenario = scenario.model_copy(update={"seed": options.seed})
        specs = list(make_devices(scenario))
        record = options.record or scenario.record
        recording = None if record is None else Recording(record, time.monotonic)
    except (DocumentInvalid, ScenarioInvalid, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_INVALID
    _allow_many_connections()
    connections = Connections(scenario.connects_at_once)
    http = httpx.AsyncClient(timeout=30.0, follow_redirects=True)
    members = assemble(
        specs,
        options.dir or scenario.pty_dir,
        options.broker or scenario.broker,
        http,
        connections,
        options.experiences and Experiences(options.experiences),
        recording,
    )
    try:
        fleet = Fleet(members, options.status_file, _announce, connections)
        asyncio.run(_run(fleet, http))
    except (asyncio.CancelledError, KeyboardInterrupt):
        return EXIT_OK
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())
