"""The cloud's settings: one YAML file, then the environment (`ROUNDSMAN_CLOUD__HTTP__PORT=8080`).

Every setting has a default that works on a laptop; an empty file, or none, is a valid one.
"""

import ipaddress
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from cloud.errors import SettingsInvalid
from contract.documents import DocumentInvalid, load, load_value
from contract.durations import Duration

ENV_PREFIX: Final = "ROUNDSMAN_CLOUD__"
Port = Annotated[int, Field(ge=0, le=65535)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HttpSettings(Section):
    host: str = Field(default="127.0.0.1", description="Address the API and the console listen on.")
    port: Port = Field(default=8080, description="Port; 0 takes a free one (see `runtime.json`).")
    public_url: str | None = Field(
        default=None,
        description="How browsers and gateways reach us, such as `https://jobs.example.com`. "
        "With https, session cookies are sent over TLS only.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.public_url is not None:
            parts = urlsplit(self.public_url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("public_url is not an http:// or https:// address")
        return self


class TlsSettings(Section):
    authority: Path | None = Field(
        default=None, description="PEM file of the CA the broker is checked by."
    )
    certificate: Path | None = Field(
        default=None, description="PEM file of our client certificate."
    )
    key: Path | None = Field(default=None, description="PEM file of its key.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key come together")
        return self


class BrokerSettings(Section):
    """Where the broker is. Without a url, one is started beside the cloud, on loopback."""

    url: str | None = Field(
        default=None,
        description="`mqtt://host:1883` or `mqtts://host:8883`; none starts the embedded one.",
    )
    username: str | None = Field(
        default=None, description="MQTT user, where the broker asks for one."
    )
    password: SecretStr | None = Field(default=None, description="Its password.")
    tls: TlsSettings = Field(default=TlsSettings(), description="Certificates, for `mqtts://`.")
    embedded_port: Port = Field(
        default=1883,
        description="Loopback port of the embedded broker; 0 takes a free one and keeps it.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.url is not None:
            parts = urlsplit(self.url)
            if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
                raise ValueError("url is not `mqtt://host:port` or `mqtts://host:port`")
            if parts.username or parts.password:
                raise ValueError("url holds a user: put it in `username` and `password`")
        return self


class CentralGatewaySettings(Section):
    """The gateway beside the cloud, on which tasks without a device run."""

    enabled: bool = Field(
        default=True,
        description="Start it beside the cloud; off where it runs as a unit of its own, or not.",
    )
    settings: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="What goes over its configuration, as in gateway.yaml: `http.allow` for inner "
        "addresses that steps may reach, `smtp`, `sms`, `databases`, `local_broker.url`.",
    )


def _heartbeat(value: timedelta) -> timedelta:
    if not timedelta(milliseconds=100) <= value <= timedelta(seconds=10):
        raise ValueError("a heartbeat is from 100ms to 10s")
    return value


class LimitSettings(Section):
    max_artifact_bytes: Annotated[int, Field(ge=1024)] = Field(
        default=256 * 1024 * 1024, description="Largest artifact, in bytes."
    )
    max_body_bytes: Annotated[int, Field(ge=1024)] = Field(
        default=4 * 1024 * 1024, description="Largest body of any other request, in bytes."
    )
    max_listeners: Annotated[int, Field(ge=1)] = Field(
        default=500, description="Event streams (SSE) open at a time."
    )
    heartbeat: Annotated[Duration, AfterValidator(_heartbeat)] = Field(
        default=timedelta(seconds=10),
        description="How often gateways say that they are there, 100ms to 10s; a gateway that was "
        "not heard for 30 s counts as offline.",
    )
    session_lasts: Duration = Field(
        default=timedelta(hours=12), description="How long a login to the console lasts."
    )


class StateSettings(Section):
    """What is kept of what devices were like over time, in each org."""

    keep: Duration = Field(
        default=timedelta(days=30), description="How long samples of devices are kept."
    )
    max_samples: Annotated[int, Field(ge=1000)] = Field(
        default=10_000_000, description="How many are kept; beyond that the oldest go."
    )


class LogSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least important line that is written."
    )
    format: Literal["auto", "text", "json"] = Field(
        default="auto", description="`auto` is text on a terminal, JSON otherwise."
    )


class CloudSettings(Section):
    data_dir: Path = Field(
        default=Path("roundsman-data/cloud"),
        description="Folder of the SQLite database, artifacts and the embedded broker's files.",
    )
    database: str | None = Field(
        default=None,
        description="`sqlite:///path` or `postgresql+psycopg://user@host/name`; "
        "none is SQLite in `data_dir`.",
    )
    secrets_key_file: Path | None = Field(
        default=None,
        description="File with the key that seals secrets, 32 bytes in base64 for URLs; none makes "
        "one in `data_dir`. Without it no secret can be read again: back it up, apart from the "
        "database.",
    )
    http: HttpSettings = Field(default=HttpSettings(), description="The API and the console.")
    broker: BrokerSettings = Field(default=BrokerSettings(), description="The MQTT broker.")
    central_gateway: CentralGatewaySettings = Field(
        default=CentralGatewaySettings(), description="The gateway for tasks without a device."
    )
    limits: LimitSettings = Field(default=LimitSettings(), description="What we allow.")
    state: StateSettings = Field(
        default=StateSettings(), description="How long the history of devices' state is kept."
    )
    log: LogSettings = Field(default=LogSettings(), description="Log lines, on standard error.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        known = ("sqlite:///", "postgresql+psycopg://")
        if self.database is not None and not self.database.startswith(known):
            raise ValueError(f"database starts with {' or '.join(known)}")
        return self

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data_dir / 'cloud.db'}"

    @property
    def has_secure_cookies(self) -> bool:
        return bool(self.http.public_url and self.http.public_url.startswith("https:"))

    @property
    def is_reachable_from_outside(self) -> bool:
        """Whether we listen on more than loopback."""
        try:
            return not ipaddress.ip_address(self.http.host).is_loopback
        except ValueError:
            return self.http.host != "localhost"


class _Environment(CloudSettings, BaseSettings):
    """The same fields, as the environment names them."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )


def read_settings(path: Path | None) -> CloudSettings:
    """Read the file, if there is one, then the environment over it.

    Raises SettingsInvalid; its text has one line for each problem: `file:line:column: key: ...`.
    """
    values: dict[str, Any] = {}
    if path is not None:
        values = _read_file(path)
    from_environment = _environment()
    if not from_environment:
        return CloudSettings.model_validate(values)
    try:
        return CloudSettings.model_validate(_merged(values, from_environment))
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_url=False, include_input=False):
            name = ENV_PREFIX + "__".join(str(part).upper() for part in problem["loc"])
            lines.append(f"environment: {name}: {problem['msg'].removeprefix('Value error, ')}")
        raise SettingsInvalid("\n".join(lines)) from None


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if not any(line.split("#")[0].strip() for line in text.splitlines()):
        return {}
    try:
        load(text, CloudSettings, str(path))
        value = load_value(text, str(path))
    except DocumentInvalid as error:
        raise SettingsInvalid(str(error)) from None
    assert isinstance(value, dict)
    return value


def _environment() -> dict[str, Any]:
    if not any(name.upper().startswith(ENV_PREFIX) for name in os.environ):
        return {}
    try:
        return dict(EnvSettingsSource(_Environment)())
    except ValueError as error:
        raise SettingsInvalid(f"environment: {error}") from None


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            result[key] = _merged(old, value)
        else:
            result[key] = value
    return result
