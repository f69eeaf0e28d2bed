"""Reference pages of the cloud, from its settings, routes, problem codes and metrics."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel

from cloud import metrics
from cloud.api.routes import BASE, BESIDE, V1
from cloud.settings import ENV_PREFIX, CloudSettings
from contract.durations import format_duration
from contract.http.problems import CODES

NOTICE = "<!-- Written by `make docs` from the code. Change the code, not this page. -->\n"


def settings() -> str:
    rows = [
        [f"`{key}`", f"`{default}`" if default else "", text]
        for key, default, text in _settings(CloudSettings)
    ]
    return "\n".join(
        [
            NOTICE,
            "# Settings of the cloud\n",
            "A YAML file (`roundsman cloud CONFIG.yaml`, see `configs/cloud.yaml`), then the "
            f"environment over it: `{ENV_PREFIX}HTTP__PORT` is `http.port`. `--check` reads them, "
            "says what is wrong with file, line and key, and ends. Nothing is required.\n",
            _table(["setting", "if not given", "meaning"], rows),
        ]
    )


def _settings(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _settings(kind, f"{before}{name}.")
        else:
            yield f"{before}{name}", _shown(field.default), field.description or ""


def _shown(default: Any) -> str:
    match default:
        case None:
            return ""
        case timedelta():
            return format_duration(default)
        case Path():
            return default.as_posix()
        case _:
            return str(default)


def http_api() -> str:
    api = [row for router in V1 for row in _routes(router.routes, BASE)]
    beside = [row for router in BESIDE for row in _routes(router.routes, "")]
    codes = [[f"`{code}`", str(status), title] for code, (status, title) in CODES.items()]
    return "\n".join(
        [
            NOTICE,
            "# HTTP API\n",
            f"JSON over HTTP; `{BASE}/openapi.json` describes every body. Requests carry "
            "`Authorization: Bearer <token>`. Lists take `limit` and `cursor` and answer "
            "`{items, next_cursor}`. Jobs are sent as YAML or JSON.\n",
            _table(["request", "what it does"], api),
            "## Beside it\n",
            _table(["request", "what it does"], beside),
            "## Problems\n",
            "Every error is `application/problem+json` with a stable `code`, the `request_id` that "
            "also stands in the log, and in `errors` each place that is wrong, with its line.\n",
            _table(["code", "status", "title"], codes),
        ]
    )


def _routes(routes: Sequence[Any], prefix: str) -> Iterator[list[str]]:
    for route in routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            text = " ".join((route.description or route.name.replace("_", " ")).split())
            for method in sorted(route.methods or ()):
                yield [f"`{method} {prefix}{route.path}`", text[:1].upper() + text[1:]]


def metric_list() -> str:
    rows = [
        [f"`{family.name}{'_total' if family.type == 'counter' else ''}`", family.type,
         family.documentation]
        for family in metrics.REGISTRY.collect()
    ]  # fmt: skip
    return "\n".join(
        [
            NOTICE,
            "# Metrics\n",
            "At `/metrics` of the cloud, in the text format of Prometheus.\n",
            _table(["metric", "kind", "meaning"], rows),
        ]
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells) + "\n"
