"""Where the service is and who asks: flags, then environment, then the config file.

```toml
# ~/.config/roundsman/config.toml, readable by its owner only
server = "lab"

[servers.lab]
url = "https://roundsman.lab.example"
token = "..."
```
"""

import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from roundsman.cli.failures import Exit, Failure
from roundsman.cli.options import Flags

DEFAULT_URL: Final = "http://127.0.0.1:8080"


@dataclass(frozen=True)
class Connection:
    """`url_from` and `token_from` say where each was found."""

    url: str
    token: str | None
    url_from: str
    token_from: str


def config_path(environment: Mapping[str, str]) -> Path:
    if folder := environment.get("ROUNDSMAN_CONFIG_DIR"):
        return Path(folder) / "config.toml"
    base = environment.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "roundsman" / "config.toml"


def read_connection(flags: Flags, environment: Mapping[str, str] = os.environ) -> Connection:
    """Raises Failure for a config file that cannot be used, or a server it does not have."""
    path = config_path(environment)
    server = _server(path, flags.server or environment.get("ROUNDSMAN_SERVER"))
    url, url_from = _first(
        (flags.url, "--url"),
        (environment.get("ROUNDSMAN_URL"), "ROUNDSMAN_URL"),
        (server.get("url"), str(path)),
    )
    token, token_from = _first(
        (flags.token, "--token"),
        (environment.get("ROUNDSMAN_TOKEN"), "ROUNDSMAN_TOKEN"),
        (server.get("token"), str(path)),
    )
    url = url or DEFAULT_URL
    if not url.startswith(("http://", "https://")):
        raise Failure(
            f"`{url}` (from {url_from}) is no address of a service",
            "Write it with its scheme: https://roundsman.example",
            Exit.USAGE,
        )
    return Connection(url, token, url_from or "the default", token_from or "nowhere")


def _first(*choices: tuple[str | None, str]) -> tuple[str | None, str | None]:
    return next(((value, name) for value, name in choices if value), (None, None))


def _server(path: Path, named: str | None) -> dict[str, Any]:
    config = _read(path)
    name = named or config.get("server")
    servers = config.get("servers", {})
    if name is None:
        return {}
    if not isinstance(servers, dict) or not isinstance(servers.get(name), dict):
        known = ", ".join(servers) if isinstance(servers, dict) else ""
        raise Failure(
            f"{path}: there is no server `{name}`",
            f"It has: {known}" if known else f"Add [servers.{name}] with url and token.",
            Exit.USAGE,
        )
    found: dict[str, Any] = servers[name]
    if found.get("token") and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Failure(
            f"{path} holds a token and others can read it", f"chmod 600 {path}", Exit.USAGE
        )
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Failure(f"{path}: {error}", code=Exit.USAGE) from None
