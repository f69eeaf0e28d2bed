"""The gateway's settings: a YAML file, then the environment (`ROUNDSMAN_GATEWAY__CLOUD__TOKEN`).

Also what `--check` says of a file: every problem with file, line, key and nearest known key.
"""

from collections.abc import Collection, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    model_validator,
)

from contract.documents import DocumentInvalid, load, load_value
from contract.durations import parse_duration
from contract.ids import DEFAULT_ORG, Id
from gateway.cloud_link.sender import DEFAULT_BACKLOG_PER_S
from gateway.device_settings import DeviceSettings, check_devices, device_union, drivers_named
from gateway.drivers.registry import Drivers
from gateway.drivers.this_gateway import ThisGateway
from gateway.errors import SettingsInvalid
from gateway.journal.outbox import DEFAULT_BOUND, DEFAULT_MAX_BYTES
from gateway.transports.databases import DatabasesByName
from gateway.transports.secret_files import secret_of
from gateway.transports.sms import SmsOptions
from gateway.transports.web import Network

ENV_PREFIX: Final = "ROUNDSMAN_GATEWAY__"
PATIENCE: Final = parse_duration("30s")
MAX_DEVICES: Final = 10_000


def host_and_port(listen: str) -> tuple[str, int]:
    """`127.0.0.1:1884` taken apart. Raises ValueError."""
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535 or not host:
        raise ValueError(f"`{listen}` is not `host:port`")
    return host.strip("[]"), int(port)


def broker_at(url: str) -> tuple[str, int, bool]:
    """Host, port and whether TLS is spoken, of an `mqtt://` or `mqtts://` address."""
    parts = urlsplit(url)
    has_tls = parts.scheme == "mqtts"
    return parts.hostname or "", parts.port or (8883 if has_tls else 1883), has_tls


def _check_url(url: str, key: str, schemes: tuple[str, ...]) -> None:
    parts = urlsplit(url)
    if parts.scheme not in schemes or not parts.hostname:
        shown = " or ".join(f"{scheme}://" for scheme in schemes)
        raise ValueError(f"{key}: `{url}` is not an address such as {shown}host:port")
    if parts.username or parts.password:
        raise ValueError(f"{key}: put no user name or password into the address")


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tls(Section):
    """PEM files. With `certificate` and `key` the broker knows us by our certificate."""

    authority: Path | None = Field(default=None, description="the CA the broker is checked by")
    certificate: Path | None = Field(default=None, description="our client certificate")
    key: Path | None = Field(default=None, description="its key")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key come together")
        return self


class Cloud(Section):
    """Where the cloud is: HTTP for artifacts, MQTT for everything else."""

    url: str = Field(default="http://127.0.0.1:8080", description="the cloud's HTTP address")
    mqtt: str = Field(
        default="mqtt://127.0.0.1:1883",
        description="its broker: `mqtt://host:port`, or `mqtts://` with TLS",
    )
    mqtt_version: Literal["auto", "5", "3.1.1"] = Field(
        default="auto", description="auto tries MQTT 5 first and remembers what the broker speaks"
    )
    token: str | None = Field(default=None, description="the gateway's token; better in a file")
    token_file: Path | None = Field(default=None, description="a file that holds the token")
    tls: Tls = Tls()

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_url(self.url, "url", ("http", "https"))
        _check_url(self.mqtt, "mqtt", ("mqtt", "mqtts"))
        if self.token is not None and self.token_file is not None:
            raise ValueError("token and token_file: give one of them")
        return self


class LocalBroker(Section):
    """The broker of this gateway's MQTT devices: one of our own, or one that is there already."""

    listen: str = Field(
        default="127.0.0.1:1884", description="where our own broker listens, as `host:port`"
    )
    embedded: bool = Field(default=True, description="start a broker of our own")
    url: str | None = Field(default=None, description="an existing broker, as `mqtt://host:port`")
    username: str | None = None
    password: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        host_and_port(self.listen)
        if self.url is not None:
            _check_url(self.url, "url", ("mqtt",))
        elif not self.embedded:
            raise ValueError("give the `url` of a broker, or leave `embedded` on")
        return self


class Artifacts(Section):
    """The cache of firmware images, and the server that devices fetch them from."""

    max_bytes: int = Field(
        default=2_000_000_000, ge=1_000_000, description="how much the cache may hold on disk"
    )
    listen: str = Field(
        default="127.0.0.1:0", description="where devices fetch images; port 0 takes a free one"
    )
    advertise: str | None = Field(
        default=None,
        description="this gateway's address as devices reach it; `listen` if not given",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        host_and_port(self.listen)
        return self


class Journal(Section):
    """How much may be kept of what is not told yet. Results of jobs are kept whatever it takes."""

    max_lines: int = Field(
        default=DEFAULT_BOUND,
        ge=100,
        le=5_000_000,
        description="log lines and device states; beyond that log lines go first",
    )
    max_bytes: int = Field(
        default=DEFAULT_MAX_BYTES,
        ge=1_000_000,
        description="of the journal on disk; beyond that log lines and device states go",
    )
    backlog_per_s: int = Field(
        default=DEFAULT_BACKLOG_PER_S,
        ge=1,
        le=100_000,
        description="device states of the time without a connection that are sent in a second, "
        "behind what is live",
    )


class Http(Section):
    """Where the steps `http.request` may connect to, beside public addresses."""

    allow: list[str] = Field(
        default_factory=list,
        max_length=1000,
        description="inner networks, as `10.1.0.0/16` or `127.0.0.1`",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.networks()
        return self

    def networks(self) -> list[Network]:
        return [ip_network(text, strict=False) for text in self.allow]


class Smtp(Section):
    """The mail server of the steps `notify.email`."""

    host: str
    port: int = Field(default=587, ge=1, le=65535)
    sender: str = Field(description="who the mails are from")
    username: str | None = None
    password: str | None = None
    tls: Literal["none", "starttls", "tls"] = Field(
        default="starttls", description="after the greeting, from the first byte, or not at all"
    )
    authority: Path | None = Field(default=None, description="the CA the server is checked by")


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = Field(
        default="auto", description="auto is text on a terminal, JSON otherwise"
    )


class Settings(Section):
    """Everything a gateway is told."""

    org: Id = Field(default=DEFAULT_ORG, description="the org it belongs to")
    gateway: Id = Field(description="its own name; with the org the MQTT user and client id")
    data_dir: Path = Field(
        default=Path("roundsman-data/gateway"), description="journal, artifacts, local broker"
    )
    cloud: Cloud = Cloud()
    local_broker: LocalBroker | None = Field(
        default=None, description="needed by MQTT devices; started if there are any"
    )
    profiles: Path = Field(
        default=Path("configs/profiles"), description="the folder of device profiles"
    )
    artifacts: Artifacts = Artifacts()
    journal: Journal = Journal()
    http: Http = Http()
    smtp: Smtp | None = None
    sms: SmsOptions | None = None
    databases: DatabasesByName = Field(
        default_factory=dict, description="what `sql.query` may ask, by name"
    )
    this_gateway: ThisGateway | None = Field(
        default=None, description="the gateway as a target of firmware jobs and restarts"
    )
    devices: list[DeviceSettings] = Field(default_factory=list, max_length=MAX_DEVICES)
    log: Log = Log()

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_devices(self.devices)
        return self

    def token(self) -> str | None:
        """The gateway's token. Raises SettingsInvalid when its file cannot be read."""
        return secret_of(self.cloud.token, self.cloud.token_file, "cloud.token_file")


def read_settings(
    path: Path, environment: Mapping[str, str], drivers: Drivers | None = None
) -> Settings:
    """The file's settings, the environment's over them; `drivers` are our own if not given.

    Raises SettingsInvalid with every problem, one a line: file, line, column, key, what is wrong.
    A device whose driver cannot be loaded is no problem here: it says why in `broken`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"{path}: {error}") from error
    try:
        values = load_value(text, str(path))
    except DocumentInvalid as error:
        raise SettingsInvalid(str(error)) from error
    if not isinstance(values, dict):
        raise SettingsInvalid(f"{path}:1:1: the settings are an object, of keys and values")
    merged = _over(values, overrides(environment))
    model = settings_model(drivers or Drivers(), drivers_named(merged))
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        raise SettingsInvalid(_problems(text, path, model, error)) from error


def settings_model(drivers: Drivers, named: Collection[str]) -> type[Settings]:
    """The settings with what these drivers' devices may say; only those in `named` are imported."""
    field: Any = Field(default_factory=list, max_length=MAX_DEVICES)
    devices: Any = (list[device_union(drivers, named)], field)  # type: ignore[misc]
    return create_model("Settings", __base__=Settings, devices=devices)


def overrides(environment: Mapping[str, str]) -> dict[str, Any]:
    """`ROUNDSMAN_GATEWAY__CLOUD__URL=x` as `{"cloud": {"url": "x"}}`; values read as YAML."""
    found: dict[str, Any] = {}
    for name, value in environment.items():
        if not name.startswith(ENV_PREFIX):
            continue
        *sections, key = name.removeprefix(ENV_PREFIX).lower().split("__")
        place = found
        for section in sections:
            place = place.setdefault(section, {})
        try:
            place[key] = load_value(value, name) if value else value
        except DocumentInvalid:
            place[key] = value
    return found


def _over(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, value in given.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            merged[key] = _over(below, value)
        else:
            merged[key] = value
    return merged


def _problems(text: str, path: Path, model: type[Settings], error: ValidationError) -> str:
    try:
        load(text, model, str(path))
    except DocumentInvalid as invalid:
        return str(invalid)
    lines = []
    for detail in error.errors(include_url=False, include_input=False):
        name = ENV_PREFIX + "__".join(str(part).upper() for part in detail["loc"])
        lines.append(f"{name}: {detail['msg']}")
    return "\n".join(lines)
