"""docs/how-to/add-a-driver.md, followed to the letter: its package is built, installed and used."""

import json
import re
import socketserver
import threading
import tomllib
import urllib.request
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
import yaml

from contract.lifecycle import TaskStatus
from tests.kit.processes import REPOSITORY

PAGE = REPOSITORY / "docs" / "how-to" / "add-a-driver.md"
FILE = re.compile(r"^`([\w./-]+)`:\n\n```\w+\n(.*?)^```$", re.M | re.S)

pytestmark = pytest.mark.row("E4")


class Lamp(socketserver.ThreadingTCPServer):
    """The device: MODEL, LEVEL and SET, one line each way."""

    daemon_threads = allow_reuse_address = True

    def __init__(self):
        self.levels = [55]
        super().__init__(("127.0.0.1", 0), _Conversation)

    @property
    def port(self):
        return self.server_address[1]

    def answer(self, line):
        match line.split():
            case ["MODEL"]:
                return "Hall 3000"
            case ["LEVEL"]:
                return str(self.levels[-1])
            case ["SET", level]:
                self.levels.append(int(level))
                return "OK"
        return "WHAT"


class _Conversation(socketserver.StreamRequestHandler):
    def handle(self):
        assert isinstance(self.server, Lamp)
        for line in self.rfile:
            self.wfile.write(self.server.answer(line.decode()).encode() + b"\n")


@pytest.fixture
def lamp():
    with Lamp() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def page():
    return dict(FILE.findall(PAGE.read_text(encoding="utf-8")))


@pytest.fixture
def package(page, tmp_path, monkeypatch):
    """The page's files as an installer leaves them, on every program's path."""
    folder = tmp_path / "installed"
    project = tomllib.loads(page["pyproject.toml"])
    for name, text in page.items():
        if name.startswith("acme_lamp/"):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    assert {str(Path(name).parent).replace("/", ".") for name in page if "/" in name} == set(
        project["tool"]["setuptools"]["packages"]
    )
    about = folder / "acme_lamp-1.0.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-lamp\nVersion: 1.0.0\n")
    groups = project["project"]["entry-points"].items()
    lines = [
        f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in named.items())
        for group, named in groups
    ]
    (about / "entry_points.txt").write_text("\n".join(lines))
    assert len(PathDistribution(about).entry_points) == 4
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


@pytest.fixture
def house(package, lamp, page, make_rig):
    """The page's gateway, where the lamp really is; its settings are the page's."""
    rig = make_rig()
    site = rig.add_gateway("house", start=False)
    (device,) = yaml.safe_load(page["gateway.yaml"])["devices"]
    site.settings["devices"] = [{**device, "port": lamp.port}]
    site.write_config(site.settings)
    return rig, site


def test_the_page_is_followed_and_a_job_runs_through_its_driver_step_and_profile(
    house, lamp, page, tmp_path
):
    rig, site = house
    checked = rig.cli("gateway", site.config, "--check").tail()
    assert "fine, 1 devices" in checked
    site.start()
    rig.wait_for_devices(site)
    job = tmp_path / "job.yaml"
    job.write_text(page["job.yaml"])
    created = rig.cli("jobs", "create", "-f", job, "--run")
    assert created.returncode == 0, created.tail()
    run = next(iter(rig.client.runs.list(job="good-night"))).id
    rig.finish(run)
    assert rig.task(run, "hall-lamp").status is TaskStatus.SUCCEEDED
    steps = rig.steps(run, "hall-lamp")
    assert steps["blink"].result == {"blinked": 2}
    assert steps["after"].result == {"level": 10}
    assert lamp.levels == [55, 100, 0, 100, 0, 10]
    ask = urllib.request.Request(
        f"{rig.url}/api/v1/steps", headers={"Authorization": f"Bearer {rig.token}"}
    )
    with urllib.request.urlopen(ask, timeout=30) as answer:
        verbs = {verb["name"]: verb for verb in json.load(answer)["items"]}
    assert verbs["acme.blink"]["parameters"]["required"] == ["scenes"]


def test_a_package_that_cannot_be_used_is_named_and_all_else_goes_on(house, package, lamp):
    """The driver's module fails to import: `--check` says so, and other devices are served."""
    rig, site = house
    whole = site.settings["devices"][0]
    (package / "acme_lamp" / "broken.py").write_text("import a_module_that_nobody_has\n")
    points = package / "acme_lamp-1.0.0.dist-info" / "entry_points.txt"
    with_broken = points.read_text().replace(
        "[roundsman.drivers]\n", "[roundsman.drivers]\nacme_broken = acme_lamp.broken:KIND\n"
    )
    points.write_text(with_broken)
    site.settings["devices"] = [
        whole,
        {"id": "attic-lamp", "driver": "acme_broken", "any": 1, "patience": "1s"},
    ]
    site.write_config(site.settings)
    said = rig.cli("gateway", site.config, "--check")
    assert said.returncode == 2
    assert "driver `acme_broken` (acme_lamp.broken:KIND) cannot load" in said.tail()
    assert "a_module_that_nobody_has" in said.tail()
    site.start()
    rig.wait_for_devices(site)
    step = {"id": "look", "uses": "device.command", "with": {"name": "level"}, "timeout": "2s"}
    job = {"name": "look", "id": "look", "steps": [step], "retry": {"attempts": 1}}
    run = rig.start({**job, "iteration": {"timeout": "5s"}})
    rig.finish(run, None)
    assert rig.task(run, "hall-lamp").status is TaskStatus.SUCCEEDED
    attic = rig.task(run, "attic-lamp")
    assert attic.status is not TaskStatus.SUCCEEDED
    assert "a_module_that_nobody_has" in attic.failure.text
