"""`roundsman demo`: the newcomer's minute. Everything on this machine, and a real firmware job."""

import signal
import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contract.http.runs import Run
    from contract.http.tasks import Task
    from roundsman._sync.client import Roundsman
    from roundsman.cli.demo_programs import Programs
    from roundsman.cli.demo_site import Site

app = typer.Typer(rich_markup_mode=None, add_completion=False)

DEVICES: Final = 24
PART_WITHIN_S: Final = 60.0
RUN_WITHIN_S: Final = 240
LOOK_EVERY_S: Final = 0.1
LOOK_AGAIN_S: Final = 0.5


@app.command(
    epilog="\b\nExample:\n  roundsman demo\n  roundsman demo --keep --port 9000",
    context_settings={"max_content_width": 100},
)
def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running until Ctrl-C.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of API and console; 8080 or a free.")
    ] = None,
    folder: Annotated[
        Path, typer.Option("--dir", help="The demo's folder; made anew at each start.")
    ] = Path("demo-data"),
) -> None:
    """Start a cloud, two gateways and 24 simulated devices, and update the devices' firmware.

    One device refuses its image and one loses its line for a while, so that you see a failure and
    a recovery. The exit code is 0 when it went exactly so.
    """
    from roundsman.cli.demo_programs import Programs
    from roundsman.cli.demo_site import new_site

    with new_site(folder, port) as site, Programs(site.folder) as programs:
        _play(site, programs, keep)


def _play(site: "Site", programs: "Programs", keep: bool) -> None:
    from roundsman._sync.client import Roundsman
    from roundsman.cli.output import write

    began = time.monotonic()
    with _part("Firmware images, signed with imgtool"):
        site.build_images()
    with _part(f"Cloud at {site.url}"):
        programs.start("cloud", site.cloud(), site.cloud_env())
        token = _token(site, programs)
    with Roundsman(site.url, token) as client:
        _start_fleet(site, programs, client)
        with _part("Image and job"):
            run = _start_run(site, client)
        write(f"\nConsole:  {site.url}/")
        write(f"Token:    {token}\n", at_once=True)
        with _at_most(RUN_WITHIN_S, programs):
            ended = _watch(client, run.id)
        is_well = _sum_up(site, client, ended)
    write(f"{time.monotonic() - began:.0f} seconds in all.")
    if keep:
        _stay(site, token, programs)
    raise typer.Exit(0 if is_well else 1)


def _start_fleet(site: "Site", programs: "Programs", client: "Roundsman") -> None:
    from roundsman.cli.demo_site import SIDES

    with _part(f"Gateways {' and '.join(SIDES)}"):
        for side in SIDES:
            created = client.gateways.create(side, name=f"The {side}")
            site.keep_gateway_token(side, created.token)
            programs.start(f"gateway-{side}", site.gateway(side), site.gateway_env(side))
            programs.start(f"devices-{side}", site.devices(side), {})
        _until(
            lambda: sum(g.online and not g.central for g in client.gateways.list()) == len(SIDES),
            programs,
            "not both gateways are online",
        )
    with _part(f"{DEVICES} devices, half on serial lines and half on MQTT"):
        _until(
            lambda: sum(1 for _ in client.devices.list(limit=100)) >= DEVICES,
            programs,
            f"not all {DEVICES} devices are known",
        )


def _token(site: "Site", programs: "Programs") -> str:
    import httpx

    def is_ready() -> bool:
        try:
            return site.token_file.exists() and httpx.get(f"{site.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    _until(is_ready, programs, "the cloud does not answer")
    return site.token_file.read_text().strip()


def _start_run(site: "Site", client: "Roundsman") -> "Run":
    from roundsman.cli.job_files import check_job, naming

    with site.image.open("rb") as image:
        client.artifacts.push(site.image.stem, image, kind="image")
    text = site.job.read_text()
    check_job(text, str(site.job))
    with naming(text, str(site.job)):
        job = client.jobs.create(text)
    return client.jobs.run(job.id)


def _watch(client: "Roundsman", run: str) -> "Run":
    from roundsman.cli.output import may_draw
    from roundsman.cli.watch import show_bars

    changes = client.runs.events(run)
    return show_bars(changes) if may_draw() else _tell(changes)


def _tell(changes: "Iterable[Run | list[Task]]") -> "Run":
    """A line for each change of a task's status, where bars cannot be drawn."""
    from contract.http.runs import Run
    from roundsman.cli.output import write
    from roundsman.cli.watch_view import Watched, note

    watched = Watched()
    told: dict[str, tuple[str, int]] = {}
    for change in changes:
        for task in watched.take(change):
            if told.get(task.id) != (task.status, task.attempt):
                told[task.id] = (task.status, task.attempt)
                write(f"{task.target:<10} {task.status:<12} {note(task)}".rstrip(), at_once=True)
        if isinstance(change, Run):
            watched.run = change
    assert watched.run is not None
    return watched.run


def _sum_up(site: "Site", client: "Roundsman", run: "Run") -> bool:
    from roundsman.cli.demo_summary import row_of, show, surprises
    from roundsman.cli.output import say, write

    tasks = [client.tasks.get(task.id) for task in client.runs.tasks(run.id)]
    counters = site.counters()
    show([row_of(task, counters.get(task.target, {})) for task in tasks], run)
    report = site.folder / "report.csv"
    report.write_bytes(client.runs.report(run.id))
    write(f"Report: {report}")
    unexpected = surprises(tasks, counters, DEVICES)
    for line in unexpected:
        say(f"Not as it should be: {line}")
    if unexpected:
        say(f"The programs' logs are in {site.folder / 'logs'}")
    return not unexpected


def _stay(site: "Site", token: str, programs: "Programs") -> None:
    from roundsman.cli.output import write

    write(f"\nEverything goes on running. Console: {site.url}/  In another terminal:\n")
    write(f"  export ROUNDSMAN_URL={site.url} ROUNDSMAN_TOKEN={token}")
    write("  roundsman devices list")
    write("  roundsman jobs run demo-firmware --watch\n\nCtrl-C ends it.", at_once=True)
    try:
        while True:
            for news in programs.start_again():
                write(news, at_once=True)
            time.sleep(LOOK_AGAIN_S)
    except KeyboardInterrupt:
        write("\nEnding everything.")


@contextmanager
def _part(name: str) -> "Iterator[None]":
    """One part of the start: said when it stands, with its time."""
    from roundsman.cli.output import write

    began = time.monotonic()
    yield
    write(f"{name:<60} {time.monotonic() - began:5.1f} s", at_once=True)


def _until(is_so: Callable[[], bool], programs: "Programs", complaint: str) -> None:
    from roundsman.cli.failures import Failure

    until = time.monotonic() + PART_WITHIN_S
    while not is_so():
        programs.check()
        if time.monotonic() > until:
            raise Failure(f"After {PART_WITHIN_S:.0f} s {complaint}:\n{programs.logs()}")
        time.sleep(LOOK_EVERY_S)


@contextmanager
def _at_most(seconds: int, programs: "Programs") -> "Iterator[None]":
    from roundsman.cli.failures import Failure

    def over(number: int, frame: FrameType | None) -> None:
        raise Failure(f"The run has not ended within {seconds} s:\n{programs.logs()}")

    signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
