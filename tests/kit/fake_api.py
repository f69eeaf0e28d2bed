"""A small service on a real socket that answers what a story scripts, and makers of its answers."""

import json
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel

from contract.http.problems import CODES, MEDIA_TYPE, Problem
from contract.http.runs import Counts, Run, RunBy
from contract.http.tasks import Task, TaskFailure
from contract.lifecycle import RunStatus, TaskStatus

NOON = datetime(2026, 7, 30, 12, 0, tzinfo=UTC)
RUN_ID = "0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa"


def a_run(status: RunStatus = RunStatus.RUNNING, **given: Any) -> Run:
    return Run.model_validate(
        {
            "id": RUN_ID,
            "job": "pumps",
            "name": "pumps",
            "type": "firmware",
            "status": status,
            "counts": Counts(in_flight=1, succeeded=1, total=2),
            "created_at": NOON,
            "started_at": NOON,
            "run_by": RunBy(id="admin", name="Administrator"),
            **given,
        }
    )


def a_task(ordinal: int, status: TaskStatus = TaskStatus.RUNNING, **given: Any) -> Task:
    return Task.model_validate(
        {
            "id": f"{RUN_ID}-{ordinal}",
            "run": RUN_ID,
            "job": "pumps",
            "ordinal": ordinal,
            "target": f"pump-{ordinal}",
            "status": status,
            "attempt": 1,
            "started_at": NOON,
            **given,
        }
    )


A_FAILURE = TaskFailure(
    code="image_refused", sentence="The device refused the firmware image.", help="Check it."
)


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class Raw:
    content: bytes
    media_type: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


Answer = Any  # a Body, a list of them (a page), a Problem, Raw, or a callable giving one


class FakeApi:
    """Answers by `METHOD /path`; a list of answers is given out one by one, the last for good."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[Asked] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                parts = urlsplit(self.path)
                asked = Asked(
                    self.command,
                    parts.path.removeprefix("/api/v1"),
                    dict(parse_qsl(parts.query)),
                    {key.lower(): value for key, value in self.headers.items()},
                    self.rfile.read(int(self.headers.get("content-length", 0))),
                )
                api.asked.append(asked)
                raw = api.answer(asked)
                self.send_response(raw.status)
                self.send_header("content-type", raw.media_type)
                self.send_header("content-length", str(len(raw.content)))
                for name, value in raw.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw.content)

            do_GET = do_POST = do_PUT = _serve

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def on(self, what: str, *answers: Answer) -> None:
        self.answers[what] = list(answers)

    def problem(self, what: str, code: str, **given: Any) -> None:
        status, title = CODES[code]
        self.on(what, Problem(title=title, status=status, code=code, **given))

    def answer(self, asked: Asked) -> Raw:
        scripted = self.answers.get(f"{asked.method} {asked.path}")
        if scripted is None:
            answer: Answer = Problem(
                title="There is no such thing", status=404, code="not_found", detail=asked.path
            )
        else:
            answer = scripted.pop(0) if len(scripted) > 1 else scripted[0]
        if callable(answer):
            answer = answer(asked)
        if isinstance(answer, Raw):
            return answer
        if isinstance(answer, Problem):
            return Raw(answer.model_dump_json().encode(), MEDIA_TYPE, answer.status)
        if isinstance(answer, BaseModel):
            return Raw(answer.model_dump_json().encode(), "application/json")
        items = [each.model_dump(mode="json") for each in answer]
        return Raw(json.dumps({"items": items}).encode(), "application/json")

    def last(self, method: str) -> Asked:
        return [each for each in self.asked if each.method == method][-1]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def events(*changes: Run | list[Task]) -> Raw:
    """An event stream that ends after these."""
    text = ": hello\n\n"
    for change in changes:
        if isinstance(change, Run):
            text += f"event: run\ndata: {change.model_dump_json()}\n\n"
        else:
            items = json.dumps([task.model_dump(mode="json") for task in change])
            text += f"event: tasks\ndata: {items}\n\n"
    return Raw(text.encode(), "text/event-stream")
