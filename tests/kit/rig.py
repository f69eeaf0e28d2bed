"""The whole product as processes: broker, cloud, gateways, simulated devices, and a client.

`with Rig(folder, programs, broker="nats") as rig:` Blocking, so that benchmarks may use it too.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from contract.http.runs import Counts, Run
from contract.http.tasks import Attempt, Step, Task, TaskDetail
from contract.lifecycle import RUN_ENDS, RunStatus, TaskStatus
from firmware_sim.images import build_image
from roundsman._sync.client import Roundsman
from tests.kit.brokers import Broker, Mosquitto, Nats
from tests.kit.faulty_link import FaultyLink
from tests.kit.ports import free_port
from tests.kit.processes import Program, Programs
from tests.kit.rig_checks import check_firmware, check_run, check_task
from tests.kit.rig_jobs import NEW_VERSION, artifact_name
from tests.kit.rig_site import Group, Site, Truth, Uplink
from tests.kit.waiting import wait_until

IMAGE_SIZE: Final = 12_000
DEADLINE_S: Final = 60.0
BrokerKind = Literal["nats", "mosquitto", "embedded"]


class Rig:
    """Started by its block: broker, then cloud. Gateways are added one by one.

    `broker="embedded"` is the cloud's own. `database` is a SQLAlchemy URL, SQLite if none.
    `settings` go over the cloud's settings file. `central`: with the central gateway beside it.
    """

    def __init__(
        self,
        folder: Path,
        programs: Programs,
        broker: BrokerKind = "nats",
        database: str | None = None,
        settings: Mapping[str, Any] | None = None,
        central: bool = False,
    ) -> None:
        self.folder = folder
        self.programs = programs
        self.data_dir = folder / "cloud"
        self.sites: dict[str, Site] = {}
        self.broker: Broker | None = _make_broker(broker, folder / "broker")
        self.broker_port = free_port() if self.broker is None else self.broker.port
        self.http_port = free_port()
        self._token_file = folder / "admin.token"
        self._config = folder / "cloud.json"
        self._cloud: Program | None = None
        self._client: Roundsman | None = None
        self._stack = ExitStack()
        own: dict[str, Any] = {
            "data_dir": str(self.data_dir),
            "http": {"port": self.http_port},
            "broker": {"embedded_port": self.broker_port}
            if self.broker is None
            else {"url": self.broker.url},
            "limits": {"heartbeat": "1s"},
            "central_gateway": {
                "enabled": central,
                "settings": {"http": {"allow": ["127.0.0.0/8"]}},
            },
            "log": {"format": "text"},
            **(settings or {}),
        }
        if database is not None:
            own["database"] = database
        folder.mkdir(parents=True, exist_ok=True)
        self._config.write_text(json.dumps(own))

    def __enter__(self) -> Self:
        try:
            if self.broker is not None:
                self._stack.callback(self.broker.close)
                self.broker.start()
            self.start_cloud()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    # -- the cloud

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def token(self) -> str:
        return self._token_file.read_text().strip()

    @property
    def cloud(self) -> Program:
        assert self._cloud is not None, "the cloud was never started"
        return self._cloud

    @property
    def client(self) -> Roundsman:
        assert self._client is not None, "the cloud was never started"
        return self._client

    def start_cloud(self) -> None:
        """Start the cloud, again if need be, and return once it says that it is ready."""
        if self._cloud is None:
            words: list[str | Path] = [self._config, "--token-file", self._token_file]
            self._cloud = self.programs.python("cloud", *words, name="cloud")
        else:
            self._cloud.start()
        self.cloud.wait_for_line("roundsman cloud is ready", 60)
        if self._client is None:
            self._client = self._stack.enter_context(Roundsman(self.url, self.token))

    def restart_cloud(self) -> None:
        """`kill -9` if it runs, then start again on the same data and port."""
        if self.cloud.is_running:
            self.cloud.kill_9()
        self.start_cloud()

    def cli(self, *words: str | Path) -> Program:
        """The command line as an operator uses it, run to its end."""
        env = {"ROUNDSMAN_URL": self.url, "ROUNDSMAN_TOKEN": self.token}
        name = f"cli-{words[0]}-{time.monotonic_ns()}"
        program = self.programs.roundsman(*words, name=name, env=env)
        program.wait(60)
        return program

    # -- gateways

    def add_gateway(
        self,
        name: str,
        groups: Sequence[Group] = (),
        *,
        uplink: bool | type[FaultyLink] = False,
        start: bool = True,
        **site: Any,
    ) -> Site:
        """Create a gateway, write its configuration, start its devices and itself.

        `groups` are those of a scenario (see rig_site.smp and mqtt). With `uplink` it reaches the
        cloud through links that can fail. `site` is passed on to Site. Returns once its devices
        are known to the cloud.
        """
        token = self.client.gateways.create(name).token
        link = None
        http_port, broker_port = self.http_port, self.broker_port
        if uplink:
            kind = FaultyLink if uplink is True else uplink
            link = Uplink(broker_port, http_port, kind).start()
            http_port, broker_port = link.http.port, link.mqtt.port
        made = Site(
            self.programs,
            self.folder / f"site-{name}",
            name,
            groups,
            cloud_url=f"http://127.0.0.1:{http_port}",
            broker_url=f"mqtt://127.0.0.1:{broker_port}",
            token=token,
            uplink=link,
            **site,
        )
        self._stack.callback(made.close)
        self.sites[name] = made
        if start:
            made.start()
            self.wait_for_devices(made)
        return made

    def wait_for_devices(self, site: Site) -> None:
        """Until the cloud knows every device of the gateway, and has it online."""
        expected = len(site.settings["devices"])

        def is_there() -> bool:
            gateway = self.client.gateways.get(site.name)
            return gateway.online and gateway.devices == expected

        wait_until(is_there, DEADLINE_S, lambda: f"{site.name} online:\n{site.program.tail()}")

    def truth(self, device: str) -> Truth:
        """What the simulator says of a device, whatever anybody reports."""
        for site in self.sites.values():
            if site.simulator is not None and device in (found := site.simulator.status()):
                return found[device]
        raise AssertionError(f"nobody plays the device {device}")

    # -- jobs and runs

    def push_image(self, version: str = NEW_VERSION, size: int = IMAGE_SIZE) -> bytes:
        """Build a real image with imgtool and store it as `image-<version>`; its bytes."""
        data = build_image(version, size, seed=7)
        self.client.artifacts.push(artifact_name(version), data, kind="image")
        return data

    def start(self, document: Mapping[str, Any]) -> str:
        """Save a job and start a run of it; the run's id."""
        job = self.client.jobs.create(json.dumps(document))
        return self.client.jobs.run(job.id).id

    def finish(
        self,
        run: str,
        status: RunStatus | str | None = RunStatus.SUCCEEDED,
        deadline_s: float = DEADLINE_S,
    ) -> Run:
        """The run once it has ended, with everything checked that must be true of any run."""

        def ended() -> Run | None:
            found = self.client.runs.get(run)
            return found if found.status in RUN_ENDS else None

        found = wait_until(ended, deadline_s, lambda: f"the run to end: {self.describe(run)}")
        assert found is not None
        assert status is None or found.status == status, self.describe(run)
        self.check(found)
        return found

    def check(self, run: Run) -> None:
        """Counts equal a recount, ended tasks are whole, and success is true of the device."""
        tasks = self.tasks(run.id)
        check_run(run, tasks)
        version = run.context.get("version")
        for row in tasks:
            detail = self.client.tasks.get(row.id)
            check_task(detail)
            if run.type == "firmware" and row.status is TaskStatus.SUCCEEDED and row.device:
                check_firmware(detail, str(version), self.truth(row.device))

    def tasks(self, run: str) -> list[Task]:
        return list(self.client.runs.tasks(run, limit=1000))

    def task(self, run: str, device: str) -> TaskDetail:
        """The task of a device, with its attempts."""
        found = [row for row in self.tasks(run) if row.device == device]
        assert len(found) == 1, f"{len(found)} tasks for {device}"
        return self.client.tasks.get(found[0].id)

    def attempts(self, run: str, device: str) -> list[Attempt]:
        """The attempts of a device's task, the first one first."""
        return list(reversed(self.task(run, device).attempts))

    def steps(self, run: str, device: str) -> dict[str, Step]:
        """The steps of the newest attempt by their ids."""
        return {step.id: step for step in self.attempts(run, device)[-1].steps}

    def wait_for_task(
        self, run: str, device: str, is_so: Callable[[TaskDetail], object], hoped_for: str = ""
    ) -> TaskDetail:
        """The task once `is_so`."""

        def look() -> TaskDetail | None:
            rows = [row for row in self.tasks(run) if row.device == device]
            task = self.client.tasks.get(rows[0].id) if rows else None
            return task if task is not None and is_so(task) else None

        found = wait_until(look, DEADLINE_S, lambda: f"{hoped_for}: {self.describe(run)}")
        assert found is not None
        return found

    def wait_for_step(self, run: str, device: str, step: str) -> TaskDetail:
        """The task once that step is under way."""
        return self.wait_for_task(run, device, lambda t: t.current_step == step, f"in step {step}")

    def wait_for_one_in_step(self, run: str, step: str) -> Task:
        """Any task of the run, once that step of it is under way."""

        def look() -> Task | None:
            return next((row for row in self.tasks(run) if row.current_step == step), None)

        found = wait_until(look, DEADLINE_S, lambda: f"in step {step}: {self.describe(run)}")
        assert found is not None
        return found

    def wait_for_counts(self, run: str, is_so: Callable[[Counts], object]) -> Counts:
        """The counts of the run once `is_so`. Fails when it ends before."""

        def look() -> Counts | None:
            found = self.client.runs.get(run)
            assert found.status not in RUN_ENDS or is_so(found.counts), self.describe(run)
            return found.counts if is_so(found.counts) else None

        found = wait_until(look, DEADLINE_S, lambda: self.describe(run))
        assert found is not None
        return found

    def describe(self, run: str) -> str:
        """A run in a few lines, for the message of a test that failed."""
        found = self.client.runs.get(run)
        lines = [f"run {found.status} {found.counts} {found.reason}"]
        for row in self.tasks(run)[:20]:
            lines.append(
                f"  {row.device} {row.status} attempt {row.attempt} tries {row.tries} "
                f"step {row.current_step} waiting {row.waiting_for} failure {row.failure}"
            )
        return "\n".join(lines)


def _make_broker(kind: BrokerKind, folder: Path) -> Broker | None:
    if kind == "embedded":
        return None
    broker = Nats(folder) if kind == "nats" else Mosquitto(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return broker
