"""Job documents that stories run, short enough to read in a test."""

from typing import Any, Final

OLD_VERSION: Final = "1.0.0"
NEW_VERSION: Final = "2.0.0"


def firmware_job(
    job: str = "firmware",
    version: str = NEW_VERSION,
    artifact: str = "",
    query: Any = None,
    attempts: int = 1,
    retry: dict[str, Any] | None = None,
    upload: dict[str, Any] | None = None,
    wait: str = "20s",
    **iteration: Any,
) -> dict[str, Any]:
    """Bring every device that matches to `version`, each step of firmware.update by name.

    `attempts` counts all tries of a task; `retry` and `upload` are merged into the job's retry
    policy and the upload step; what is left goes into `iteration`.
    """
    return {
        "name": job,
        "id": job,
        "type": "firmware",
        "targets": {"resource": "device", "query": query or {}},
        "context": {"version": version, "image": artifact or artifact_name(version)},
        "iteration": {"concurrency": 50, "timeout": "60s", **iteration},
        "retry": {"on": ["timeout", "failure"], "attempts": attempts, **(retry or {})},
        "steps": [
            {"uses": "firmware.upload", "with": {"artifact": "{{ ctx.image }}"}, **(upload or {})},
            {"uses": "firmware.test"},
            {"uses": "device.reset"},
            {"uses": "device.wait", "with": {"until": "online", "timeout": wait}},
            {"uses": "firmware.verify", "with": {"version": "{{ ctx.version }}"}},
            {"uses": "firmware.confirm"},
        ],
    }


def artifact_name(version: str) -> str:
    return f"image-{version}"


def command_job(
    job: str = "command",
    steps: list[dict[str, Any]] | None = None,
    query: Any = None,
    attempts: int = 1,
    **iteration: Any,
) -> dict[str, Any]:
    """Ask every device that matches something; without `steps`, its version."""
    return {
        "name": job,
        "id": job,
        "type": "command",
        "targets": {"resource": "device", "query": query or {}},
        "iteration": {"concurrency": 50, "timeout": "60s", **iteration},
        "retry": {"on": ["timeout", "failure"], "attempts": attempts},
        "steps": steps or [ask("version")],
    }


def restart_job(job: str = "restart") -> dict[str, Any]:
    """Every gateway restarts."""
    return {
        "name": job,
        "id": job,
        "targets": {"resource": "gateway", "query": {"id": {"$ne": "central"}}},
        "iteration": {"timeout": "60s"},
        "retry": {"attempts": 1},
        "steps": [{"uses": "device.reset"}, {"uses": "device.wait"}],
    }


def ask(
    name: str, step_id: str | None = None, timeout: str | None = None, **parameters: Any
) -> dict[str, Any]:
    """A step that sends a command of the device's profile."""
    step: dict[str, Any] = {"uses": "device.command", "with": {"name": name}}
    if step_id:
        step["id"] = step_id
    if timeout:
        step["timeout"] = timeout
    if parameters:
        step["with"]["parameters"] = parameters
    return step


def delay(duration: str) -> dict[str, Any]:
    return {"uses": "flow.delay", "with": {"for": duration}}
