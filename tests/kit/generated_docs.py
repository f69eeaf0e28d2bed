"""Reference pages that are written from the code: `python -m tests.kit.generated_docs`.

`PAGES` names each file under docs/reference with the function that gives its text. A test
compares them, so a page can never be older than the code it speaks of.
"""

import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from contract import failures, lifecycle, steps, waiting
from contract.job_document import json_schema
from gateway.drivers.registry import Drivers
from tests.kit import cli_help, cloud_docs

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
_NOTICE = "<!-- Written by `make docs` from the code. Change the code, not this page. -->\n"


def write(folder: Path = REFERENCE) -> list[Path]:
    """Write every page that differs; the paths that were written."""
    written = []
    for name, page in PAGES.items():
        path, text = folder / name, page()
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            written.append(path)
    return written


def stale(folder: Path = REFERENCE) -> list[str]:
    """The names of pages that are missing or differ from the code."""
    return [
        name
        for name, page in PAGES.items()
        if not (folder / name).exists() or (folder / name).read_text() != page()
    ]


def life_cycles() -> str:
    parts = [
        _NOTICE,
        "# Life-cycles\n",
        "Every status and every legal move, from `contract/lifecycle.py`.\n",
    ]
    machines: list[tuple[str, type[StrEnum], Mapping[Any, frozenset[Any]], str]] = [
        ("Run", lifecycle.RunStatus, lifecycle.RUN_MOVES, ""),
        ("Task", lifecycle.TaskStatus, lifecycle.TASK_MOVES, _task_moves()),
        ("Step", lifecycle.StepStatus, lifecycle.STEP_MOVES, ""),
    ]
    for title, statuses, moves, more in machines:
        parts.append(f"## {title}\n")
        parts.append(_diagram(statuses, moves))
        meanings = _comments(statuses)
        rows = [
            [f"`{status}`", meanings.get(status.name, ""), _names(statuses, moves.get(status, ()))]
            for status in statuses
        ]
        parts.append(_table(["status", "when", "may become"], rows))
        if more:
            parts.append(more)
    aliases = [
        [f"`{name}`", _names(lifecycle.RunStatus, found)]
        for name, found in lifecycle.RUN_STATUS_ALIASES.items()
    ]
    parts.append("## Other names of run statuses\n")
    parts.append("Filters and `wait` take these too.\n")
    parts.append(_table(["name", "stands for"], aliases))
    return "\n".join(parts)


def failure_codes() -> str:
    kinds = [[f"`{k.code}`", k.sentence, k.help] for k in failures.FAILURES.values()]
    refusals = [[f"`{k.code}`", k.sentence] for k in failures.REFUSALS.values()]
    return "\n".join(
        [
            _NOTICE,
            "# Failure codes\n",
            "Why a step or a task failed, and what a person can do about it.\n",
            _table(["code", "what happened", "what to do"], kinds),
            "## Refused items\n",
            "Why the cloud did not store one item of a report. The others are stored.\n",
            _table(["code", "why"], refusals),
        ]
    )


def wait_codes() -> str:
    kinds = [[f"`{k.code}`", k.sentence, k.ends] for k in waiting.WAITS.values()]
    return "\n".join(
        [
            _NOTICE,
            "# Why things wait\n",
            "A run or task that waits has exactly one of these reasons (`waiting_for`).\n",
            _table(["code", "why", "what ends it"], kinds),
        ]
    )


def job_schema() -> str:
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def step_library() -> str:
    meanings = _comments(steps.AfterRestart)
    parts = [
        _NOTICE,
        "# Steps\n",
        "What a step `uses`, and what stands in its `with`.\n",
        "After a restart of the gateway in the middle of a step:\n",
        _table(
            ["word", "the gateway"],
            [[f"`{word}`", meanings.get(word.name, "")] for word in steps.AfterRestart],
        ),
    ]
    for verb in steps.VERBS.values():
        parts.append(f"## {verb.name}\n")
        kind = "A macro: saved as ordinary steps. " if verb.macro else ""
        parts.append(f"{kind}{_sentence(verb.summary)} After a restart: `{verb.after_restart}`.\n")
        schema = verb.parameters.model_json_schema()
        rows = [
            [f"`{name}`", _type_of(field), _default_of(name, field, schema)]
            for name, field in schema.get("properties", {}).items()
        ]
        if rows:
            parts.append(_table(["parameter", "type", "if not given"], rows))
    return "\n".join(parts)


def driver_list() -> str:
    drivers = Drivers()
    parts = [
        _NOTICE,
        "# Drivers\n",
        "What stands in a device's settings beside what all devices have. An installed package may",
        "bring more: [how to add a driver](../how-to/add-a-driver.md).\n",
    ]
    for name in drivers.names:
        kind = drivers.kind(name)
        parts.append(f"## {name}\n")
        parts.append(f"{_sentence(kind.summary)} [More](drivers/{name}.md).\n")
        schema = kind.options.model_json_schema()
        rows = [
            [f"`{key}`", field.get("description", ""), _default_of(key, field, schema)]
            for key, field in schema["properties"].items()
        ]
        parts.append(_table(["key", "meaning", "if not given"], rows))
    return "\n".join(parts)


def profile_schema(driver: str) -> str:
    """The JSON Schema of a driver's profiles."""
    model = Drivers().kind(driver).profile
    assert model is not None
    return json.dumps(model.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "drivers.md": driver_list,
    "mqtt-profile.schema.json": partial(profile_schema, "mqtt"),
    "modbus-profile.schema.json": partial(profile_schema, "modbus"),
    "life-cycles.md": life_cycles,
    "failures.md": failure_codes,
    "waiting.md": wait_codes,
    "job-document.schema.json": job_schema,
    "steps.md": step_library,
    "cli.md": cli_help.page,
    "settings.md": cloud_docs.settings,
    "http-api.md": cloud_docs.http_api,
    "metrics.md": cloud_docs.metric_list,
}


def _task_moves() -> str:
    rows = [
        [
            f"`{status}`",
            _names(lifecycle.TaskStatus, lifecycle.CLOUD_TASK_MOVES.get(status, ())),
            _names(lifecycle.TaskStatus, lifecycle.REPORT_TASK_MOVES.get(status, ())),
        ]
        for status in lifecycle.TaskStatus
    ]
    text = "Who makes the move: the cloud itself, or a report of the open attempt.\n\n"
    return text + _table(["from", "the cloud moves it to", "a report moves it to"], rows)


def _diagram(statuses: type[StrEnum], moves: Mapping[Any, frozenset[Any]]) -> str:
    first = next(iter(statuses))
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    for status in statuses:
        targets = [other for other in statuses if other in moves.get(status, ())]
        lines += [f"    {status} --> {target}" for target in targets]
        if not targets:
            lines.append(f"    {status} --> [*]")
    return "\n".join([*lines, "```", ""])


def _comments(statuses: type[StrEnum]) -> dict[str, str]:
    """The comment beside each member: the source is where a status is explained."""
    found = re.findall(r'^\s+(\w+) = "[^"]*"(?:  # (.*))?$', inspect.getsource(statuses), re.M)
    return {name: comment for name, comment in found}


def _names(statuses: type[StrEnum], some: Any) -> str:
    return ", ".join(f"`{status}`" for status in statuses if status in some)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in row) + " |" for row in lines) + "\n"


def _cell(text: str) -> str:
    # Doubled braces are a template to some site builders, and a bar would end the cell.
    return text.replace("|", "\\|").replace("\n", " ")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _type_of(field: Mapping[str, Any]) -> str:
    """A JSON Schema field in words a person reads."""
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if "anyOf" in field:
        kinds = [_type_of(option) for option in field["anyOf"] if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "{{" in str(field.get("pattern", "")).replace("\\", ""):
        return "template"
    described = field.get("description")
    return str(described or field.get("type") or "any value")


def _default_of(name: str, field: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if name in schema.get("required", []):
        return "required"
    default = field.get("default")
    return "" if default is None else f"`{json.dumps(default)}`"


def main() -> int:
    for path in write():
        print(f"wrote {path.relative_to(REFERENCE.parents[1])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
