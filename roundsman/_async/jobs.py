"""Jobs: save, read and start them."""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import JsonValue

from contract.http.history import DeletedJob, JobReferences
from contract.http.jobs import DuplicateJob, Job
from contract.http.runs import PauseRun, Run, StartRun
from contract.http.targets import Preview, PreviewAsked
from contract.job_document import JobDocument
from roundsman._async.run_ids import new_run_id
from roundsman._async.transport import Transport, parse

YAML = "application/yaml"
JSON = "application/json"


class Jobs:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, document: JobDocument | str) -> Job:
        """Save a new job: a document, or its text in YAML or JSON.

        Raises BadRequest with every place that is wrong, Conflict when the job exists.
        """
        content, media_type = _body(document)
        answer = await self._transport.send(
            "POST",
            "/jobs",
            content=content,
            headers={"content-type": media_type},
            repeatable=False,
        )
        return parse(answer, Job)

    async def update(self, job: str, document: JobDocument | str, revision: int) -> Job:
        """Replace a job's document. Raises Changed when `revision` is no longer its newest."""
        content, media_type = _body(document)
        answer = await self._transport.send(
            "PUT",
            f"/jobs/{job}",
            content=content,
            headers={"content-type": media_type, "if-match": f'"{revision}"'},
            repeatable=False,
        )
        return parse(answer, Job)

    async def duplicate(
        self, job: str, *, name: str | None = None, new_id: str | None = None
    ) -> Job:
        """Save a copy of a job, without its runs; an id that is not given is made from the name.

        Raises Conflict when `new_id` is taken.
        """
        asked = DuplicateJob(name=name, id=new_id)
        answer = await self._transport.send(
            "POST", f"/jobs/{job}/duplicate", body=asked, repeatable=False
        )
        return parse(answer, Job)

    async def get(self, job: str) -> Job:
        return await self._transport.get(f"/jobs/{job}", Job)

    def list(self, *, limit: int | None = None) -> AsyncIterator[Job]:
        """All jobs; `limit` is the size of a page."""
        return self._transport.items("/jobs", Job, {"limit": limit})

    async def run(
        self,
        job: str,
        *,
        context: Mapping[str, JsonValue] | None = None,
        query: JsonValue = None,
        priority: str | None = None,
        run: str | None = None,
        replace: bool = False,
        at: datetime | None = None,
        after: timedelta | None = None,
        expires_after: timedelta | None = None,
    ) -> Run:
        """Start a run. A `context` replaces the job's whole; `run` is the new run's id.

        `replace` cancels the run in flight and starts when that has ended; `at` or `after` start
        later. Raises Conflict with `run` when the job has one in flight, or is paused.
        """
        fields: dict[str, Any] = {
            "id": run or new_run_id(),
            "replace": replace,
            "at": at,
            "after": after,
            "expires_after": expires_after,
        }
        if context is not None:
            fields["context"] = dict(context)
        if query is not None:
            fields["query"] = query
        if priority is not None:
            fields["priority"] = priority
        start = StartRun.model_validate(fields)
        return parse(await self._transport.send("POST", f"/jobs/{job}/runs", body=start), Run)

    async def pause(self, job: str, *, reason: str = "") -> Job:
        """Pause a job: its runs, its schedule, and every start."""
        asked = PauseRun(reason=reason)
        return parse(await self._transport.send("POST", f"/jobs/{job}/pause", body=asked), Job)

    async def resume(self, job: str) -> Job:
        """Resume a job and its runs, but for those that a person paused by themselves."""
        return parse(await self._transport.send("POST", f"/jobs/{job}/resume"), Job)

    async def delete(self, job: str, *, with_triggered: bool = False) -> DeletedJob:
        """Delete a job: what is in flight completes, its runs, logs and reports are gone.

        `with_triggered` also deletes the jobs that only its triggers start. The answer warns of
        jobs that name it and will fail.
        """
        query = {"with_triggered": "true" if with_triggered else None}
        return parse(await self._transport.send("DELETE", f"/jobs/{job}", query=query), DeletedJob)

    async def references(self, job: str) -> JobReferences:
        """Who has a trigger on the job, and apart from them who merely runs it."""
        return await self._transport.get(f"/jobs/{job}/references", JobReferences)

    async def preview(
        self,
        job: str | JobDocument,
        *,
        context: Mapping[str, JsonValue] | None = None,
        query: JsonValue = None,
    ) -> Preview:
        """What a run would be about now: of a job by its id, or of a document not yet saved."""
        if isinstance(job, JobDocument):
            content, media_type = _body(job)
            headers = {"content-type": media_type}
            answer = await self._transport.send(
                "POST", "/preview", content=content, headers=headers
            )
            return parse(answer, Preview)
        asked = PreviewAsked(context=None if context is None else dict(context), query=query)
        return parse(
            await self._transport.send("POST", f"/jobs/{job}/preview", body=asked), Preview
        )


def _body(document: JobDocument | str) -> tuple[bytes, str]:
    if isinstance(document, str):
        is_json = document.lstrip()[:1] == "{"
        return document.encode(), JSON if is_json else YAML
    return document.model_dump_json(by_alias=True, exclude_unset=True).encode(), JSON
