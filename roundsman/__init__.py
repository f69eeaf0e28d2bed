"""The face of Roundsman: a Python client, in two flavours with the same methods.

```python
with Roundsman("https://roundsman.example", token) as client:
    run = client.jobs.run("pump-firmware", context={"version": "2.4.1"})
    print(client.runs.wait(run.id, timeout=timedelta(hours=1)).status)
```
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roundsman._async.client import AsyncRoundsman
    from roundsman._sync.client import Roundsman
    from roundsman.current import CurrentRun, current_run, current_run_id, entered_run
    from roundsman.errors import (
        ApiError,
        BadRequest,
        Changed,
        Conflict,
        Gone,
        NotAuthenticated,
        NotFound,
        NotPermitted,
        RateLimited,
        RoundsmanError,
        ServerError,
        Timeout,
        TransportError,
        Unreachable,
    )

__all__ = [
    "ApiError",
    "AsyncRoundsman",
    "BadRequest",
    "Changed",
    "Conflict",
    "CurrentRun",
    "Gone",
    "NotAuthenticated",
    "NotFound",
    "NotPermitted",
    "RateLimited",
    "Roundsman",
    "RoundsmanError",
    "ServerError",
    "Timeout",
    "TransportError",
    "Unreachable",
    "current_run",
    "current_run_id",
    "entered_run",
]

_CLIENTS = {
    "AsyncRoundsman": "roundsman._async.client",
    "Roundsman": "roundsman._sync.client",
    **dict.fromkeys(
        ("CurrentRun", "current_run", "current_run_id", "entered_run"), "roundsman.current"
    ),
}


def __getattr__(name: str) -> Any:
    # Imported when named: the command line loads this package, and `--help` needs no HTTP.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_CLIENTS.get(name, "roundsman.errors")), name)


def __dir__() -> list[str]:
    return __all__
