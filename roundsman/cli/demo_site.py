"""The demo's folder: configuration, images, tokens, and the commands that start its programs."""

import fcntl
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from roundsman.cli.failures import Exit, Failure
from roundsman.cli.programs import program_command

CONFIGS: Final = Path(__file__).resolve().parents[2] / "configs"
SIDES: Final = ("north", "south")
OLD_VERSION: Final = "1.8.0"
NEW_VERSION: Final = "2.4.1"
IMAGE_SIZE: Final = 60_000
PREFERRED_PORT: Final = 8080
_MARK: Final = ".roundsman-demo"


@dataclass(frozen=True)
class Site:
    """Where everything of one demo is. `local_brokers` has a port for each side."""

    folder: Path
    http_port: int
    broker_port: int
    local_brokers: dict[str, int]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def token_file(self) -> Path:
        return self.folder / "admin.token"

    @property
    def image(self) -> Path:
        return self.folder / "images" / f"demo-{NEW_VERSION}.bin"

    @property
    def job(self) -> Path:
        return self.folder / "job.yaml"

    def cloud(self) -> list[str]:
        return [*program_command("cloud"), "cloud.yaml", "--token-file", self.token_file.name]

    def cloud_env(self) -> dict[str, str]:
        return {
            "ROUNDSMAN_CLOUD__HTTP__PORT": str(self.http_port),
            "ROUNDSMAN_CLOUD__BROKER__EMBEDDED_PORT": str(self.broker_port),
        }

    def gateway(self, side: str) -> list[str]:
        return [*program_command("gateway"), f"gateway-{side}.yaml"]

    def devices(self, side: str) -> list[str]:
        return [
            *program_command("sim"),
            f"devices-{side}.yaml",
            "--broker",
            f"mqtt://127.0.0.1:{self.local_brokers[side]}",
            "--dir",
            "lines",
            "--status-file",
            f"devices-{side}.status.json",
        ]

    def gateway_env(self, side: str) -> dict[str, str]:
        return {
            "ROUNDSMAN_GATEWAY__CLOUD__URL": self.url,
            "ROUNDSMAN_GATEWAY__CLOUD__MQTT": f"mqtt://127.0.0.1:{self.broker_port}",
            "ROUNDSMAN_GATEWAY__LOCAL_BROKER__LISTEN": f"127.0.0.1:{self.local_brokers[side]}",
        }

    def keep_gateway_token(self, side: str, token: str) -> None:
        path = self.folder / f"gateway-{side}.token"
        path.touch(mode=0o600)
        path.write_text(token)

    def counters(self) -> dict[str, dict[str, int]]:
        """What each simulated device says it has lived through, by its id."""
        found: dict[str, dict[str, int]] = {}
        for side in SIDES:
            status = json.loads((self.folder / f"devices-{side}.status.json").read_text())
            found |= {name: device["counters"] for name, device in status["devices"].items()}
        return found

    def build_images(self) -> None:
        """Two images, built and signed by MCUboot's own imgtool."""
        (self.folder / "images").mkdir()
        for version in (OLD_VERSION, NEW_VERSION):
            command = [
                *program_command("sim")[:-1],
                "firmware_sim.images",
                f"images/demo-{version}.bin",
                *("--version", version, "--size", str(IMAGE_SIZE), "--seed", "7"),
                *("--key", "images/signing-key.pem"),
            ]
            done = subprocess.run(
                command, cwd=self.folder, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise Failure(f"The image {version} cannot be built:\n{done.stderr.strip()}")


@contextmanager
def new_site(folder: Path, port: int | None) -> Iterator[Site]:
    """A fresh folder, held for as long as the demo runs.

    Raises Failure when the folder is somebody else's, or another demo runs in it.
    """
    if not (CONFIGS / "demo" / "job.yaml").exists():
        raise Failure(
            f"The demo's files are missing: there is no {CONFIGS / 'demo'}",
            "Run it from a clone of the repository: make demo",
        )
    folder = folder.absolute()
    with ExitStack() as stack:
        _renew(folder, stack)
        for source in (CONFIGS / "demo").glob("*.yaml"):
            shutil.copy(source, folder)
        shutil.copytree(CONFIGS / "profiles", folder / "profiles")
        ports = _free_ports(2 + len(SIDES))
        http_port = port or (PREFERRED_PORT if _is_free(PREFERRED_PORT) else ports[0])
        if not _is_free(http_port):
            raise Failure(f"Port {http_port} is taken", "Choose another: --port 9000")
        yield Site(folder, http_port, ports[1], dict(zip(SIDES, ports[2:], strict=True)))


def _renew(folder: Path, stack: ExitStack) -> None:
    mark = folder / _MARK
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        raise Failure(
            f"{folder} is not empty and no demo made it", "Choose another: --dir DIR", Exit.USAGE
        )
    folder.mkdir(parents=True, exist_ok=True)
    handle = stack.enter_context(mark.open("a"))
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Failure(
            f"Another demo runs in {folder}", "End it, or choose another: --dir DIR"
        ) from None
    for path in folder.iterdir():
        if path == mark:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    os.chmod(folder, 0o700)


def _free_ports(count: int) -> list[int]:
    # All are held at once, so that none is given out twice.
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
