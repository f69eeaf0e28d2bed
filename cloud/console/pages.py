"""What each page of the console is made from: one dataclass a page, and nothing else reaches it.

A page with a live part has a second template of the same name ending in `_live.html`, which is
both the first paint and every update.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from contract.documents import dump_value
from contract.http.fleet import Device, Gateway
from contract.http.history import Firing, JobReferences, ReportLink
from contract.http.jobs import Job
from contract.http.runs import Run, RunLogLine
from contract.http.tasks import Task, TaskDetail
from contract.lifecycle import RUN_ENDS, RunStatus

HERE: Final = Path(__file__).parent
STATIC: Final = HERE / "static"

JOB_FILTERS: Final = ("all", "pending", "failed")
RUN_FILTERS: Final[Mapping[str, tuple[RunStatus, ...]]] = {
    "all": (),
    "pending": tuple(status for status in RunStatus if status not in RUN_ENDS),
    "failed": (RunStatus.FAILED, RunStatus.PARTIALLY_SUCCEEDED),
    "succeeded": (RunStatus.SUCCEEDED,),
}


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What surrounds every page: who looks at it, and the token its forms carry."""

    user: str = ""
    csrf: str = ""


@dataclass(frozen=True, kw_only=True)
class PageOf:
    """The parts all pages share."""

    template: ClassVar[str]
    section: ClassVar[str] = ""
    frame: Frame

    @property
    def title(self) -> str:
        return self.section

    @property
    def user(self) -> str:
        return self.frame.user

    @property
    def csrf(self) -> str:
        return self.frame.csrf


@dataclass(frozen=True, kw_only=True)
class LoginPage(PageOf):
    template: ClassVar[str] = "login"
    next: str = "/"
    problem: str = ""

    @property
    def title(self) -> str:
        return "Log in"


@dataclass(frozen=True, kw_only=True)
class ErrorPage(PageOf):
    template: ClassVar[str] = "error"
    what: str
    detail: str

    @property
    def title(self) -> str:
        return self.what


@dataclass(frozen=True, kw_only=True)
class ListPage(PageOf):
    """A list with filters in its address. `next_cursor` leads to the page after it."""

    show: str = "all"
    cursor: str | None = None
    next_cursor: str | None = None

    @property
    def path(self) -> str:
        return f"/{self.template}"

    def _href(self, show: str, cursor: str | None = None) -> str:
        query = {"show": show if show != "all" else None, "cursor": cursor}
        text = urlencode({key: value for key, value in query.items() if value})
        return f"{self.path}?{text}" if text else self.path

    @property
    def next_href(self) -> str | None:
        return self._href(self.show, self.next_cursor) if self.next_cursor else None

    @property
    def live_url(self) -> str:
        return f"/live{self._href(self.show, self.cursor)}"


@dataclass(frozen=True, kw_only=True)
class JobsPage(ListPage):
    template: ClassVar[str] = "jobs"
    section: ClassVar[str] = "Jobs"
    jobs: tuple[Job, ...] = ()

    @property
    def filters(self) -> list[tuple[str, str]]:
        return [(word, self._href(word)) for word in JOB_FILTERS]


@dataclass(frozen=True, kw_only=True)
class RunsPage(ListPage):
    template: ClassVar[str] = "runs"
    section: ClassVar[str] = "Runs"
    runs: tuple[Run, ...] = ()

    @property
    def filters(self) -> list[tuple[str, str]]:
        return [(word, self._href(word)) for word in RUN_FILTERS]


@dataclass(frozen=True, kw_only=True)
class JobPage(RunsPage):
    """A job with its runs, the newest first."""

    template: ClassVar[str] = "job"
    section: ClassVar[str] = "Jobs"
    job: Job
    references: JobReferences = field(default_factory=JobReferences)
    problem: str = ""

    @property
    def title(self) -> str:
        return self.job.name

    @property
    def path(self) -> str:
        return f"/jobs/{self.job.id}"

    @property
    def in_flight(self) -> bool:
        return any(run.status not in RUN_ENDS for run in self.runs)

    @property
    def document(self) -> str:
        return dump_value(self.job.document)


@dataclass(frozen=True, kw_only=True)
class RunPage(ListPage):
    """A run with its tasks; `show` is `all` or a name of its counts."""

    template: ClassVar[str] = "run"
    section: ClassVar[str] = "Runs"
    run: Run
    tasks: tuple[Task, ...] = ()
    started: tuple[Run, ...] = ()
    log: tuple[RunLogLine, ...] = ()
    firings: tuple[Firing, ...] = ()
    link: ReportLink | None = None
    problem: str = ""

    @property
    def title(self) -> str:
        return self.run.name

    @property
    def path(self) -> str:
        return f"/runs/{self.run.id}"

    @property
    def count_links(self) -> list[tuple[str, str, int]]:
        counts = self.run.counts.model_dump()
        words = [("all", "total"), *((word, word) for word in counts if word != "total")]
        return [
            (word.replace("_", " "), self._href(word), counts[field])
            for word, field in words
            if counts[field] or word == "all"
        ]

    @property
    def may_cancel(self) -> bool:
        return self.run.status not in RUN_ENDS and self.run.status is not RunStatus.CANCELLING

    @property
    def cancel_consequence(self) -> str:
        counts = self.run.counts
        done = counts.succeeded + counts.failed + counts.timed_out + counts.cancelled
        return (
            f"{counts.pending + counts.retrying} not started will never start; {counts.in_flight}"
            f" in flight will finish; {done} done are not changed."
        )

    @property
    def query(self) -> str:
        return _pretty(self.run.query)

    @property
    def context(self) -> str:
        return _pretty(self.run.context)

    @property
    def settings(self) -> str:
        return _pretty(self.run.settings)


@dataclass(frozen=True, kw_only=True)
class TaskPage(PageOf):
    template: ClassVar[str] = "task"
    section: ClassVar[str] = "Runs"
    task: TaskDetail

    @property
    def title(self) -> str:
        return f"{self.task.about}, {self.task.job}"

    @property
    def live_url(self) -> str:
        return f"/live/tasks/{self.task.id}"


@dataclass(frozen=True, kw_only=True)
class DevicesPage(ListPage):
    template: ClassVar[str] = "devices"
    section: ClassVar[str] = "Devices"
    devices: tuple[Device, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GatewaysPage(ListPage):
    template: ClassVar[str] = "gateways"
    section: ClassVar[str] = "Gateways"
    gateways: tuple[Gateway, ...] = ()


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


@cache
def static_url(name: str) -> str:
    """A static file's address; it changes with the file, so that it may be cached for ever."""
    digest = sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/static/{digest}/{name}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals["static"] = static_url
    return environment


def render(page: PageOf) -> str:
    """The whole page."""
    return _environment().get_template(f"{page.template}.html").render(page=page)


def render_live(page: PageOf) -> str:
    """The live part of it. A job's live part is its list of runs."""
    name = "runs" if isinstance(page, JobPage) else page.template
    return _environment().get_template(f"{name}_live.html").render(page=page)
