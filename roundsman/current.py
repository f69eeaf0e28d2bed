"""Which run am I in: for programs that a step of a run has called.

A gateway names run, task and attempt in the headers of its HTTP requests, under `roundsman` in the
payload of its MQTT messages, and in the environment of what it starts. A server enters what came
with a request; `current_run()` is None outside.

```python
def handle(request):                      # a step `http.request` calls this service
    with entered_run(request.headers):
        client.runs.add_log("invoice written")   # stands in the log of the run
```
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

HEADERS: Final = ("x-roundsman-run", "x-roundsman-task", "x-roundsman-attempt")
VARIABLES: Final = ("ROUNDSMAN_RUN", "ROUNDSMAN_TASK", "ROUNDSMAN_ATTEMPT")
PAYLOAD_KEY: Final = "roundsman"
_LONGEST: Final = 128


@dataclass(frozen=True)
class CurrentRun:
    """The run that called us, and of it the task and attempt, where they are known."""

    id: str
    task: str | None = None
    attempt: int | None = None

    def headers(self) -> dict[str, str]:
        """The headers that hand it on to whoever we call."""
        values = (self.id, self.task, None if self.attempt is None else str(self.attempt))
        return {name: value for name, value in zip(HEADERS, values, strict=True) if value}


_entered: ContextVar[CurrentRun | None] = ContextVar("roundsman_run", default=None)


def current_run() -> CurrentRun | None:
    """The run we are in: what was entered, else what the environment names, else None."""
    found = _entered.get()
    if found is not None:
        return found
    return _run(*(os.environ.get(name) for name in VARIABLES))


def current_run_id() -> str | None:
    found = current_run()
    return None if found is None else found.id


@contextmanager
def entered_run(source: Mapping[str, Any] | str | bytes) -> Iterator[CurrentRun | None]:
    """Be in the run that a request or message names while the block lasts.

    `source` is the headers of a request, or the payload of a message: JSON, or what it decodes to.
    One that names no run leaves everything as it is.
    """
    found = run_of(source)
    if found is None:
        yield current_run()
        return
    token = _entered.set(found)
    try:
        yield found
    finally:
        _entered.reset(token)


def run_of(source: Mapping[str, Any] | str | bytes) -> CurrentRun | None:
    """The run that headers or a payload name, or None; nothing is raised for what is no JSON."""
    if isinstance(source, str | bytes):
        try:
            source = json.loads(source)
        except ValueError:
            return None
    if not isinstance(source, Mapping):
        return None
    stamp = source.get(PAYLOAD_KEY)
    if isinstance(stamp, Mapping):
        return _run(stamp.get("run"), stamp.get("task"), stamp.get("attempt"))
    lowered = {str(key).lower(): value for key, value in source.items()}
    return _run(*(lowered.get(name) for name in HEADERS))


def _run(run: object, task: object, attempt: object) -> CurrentRun | None:
    if not isinstance(run, str) or not run or len(run) > _LONGEST:
        return None
    number = str(attempt) if attempt is not None else ""
    return CurrentRun(
        id=run,
        task=task if isinstance(task, str) and task and len(task) <= _LONGEST else None,
        attempt=int(number) if number.isascii() and number.isdecimal() and len(number) < 10
        else None,
    )  # fmt: skip
