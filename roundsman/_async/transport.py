"""One HTTP exchange with the service: retries, and answers turned into models or errors.

httpx is imported here and in `client.py` only; its errors become ours here.
"""

import json
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from contract.http import Page
from contract.http.problems import Problem
from roundsman._async.pause import pause
from roundsman.current import current_run
from roundsman.errors import TransportError, error_of

BASE: Final = "/api/v1"
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
LONGEST_RETRY_AFTER_S: Final = 30.0
NOT_READY: Final = frozenset({429, 502, 503, 504})

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
Query = Mapping[str, str | int | None]


class Transport:
    """Sends requests; what may harmlessly arrive twice is tried again when nobody answers."""

    def __init__(self, http: httpx.AsyncClient, retries: int) -> None:
        self._http = http
        self._retries = retries

    async def get(self, path: str, kind: type[M], query: Query | None = None) -> M:
        return parse(await self.send("GET", path, query=query), kind)

    async def items(self, path: str, kind: type[M], query: Query | None = None) -> AsyncIterator[M]:
        """Every item of a list, page after page as they are consumed."""
        wanted = dict(query or {})
        while True:
            page = parse(await self.send("GET", path, query=wanted), Page[kind])  # type: ignore[valid-type]
            for item in page.items:
                yield item
            if page.next_cursor is None:
                return
            wanted["cursor"] = page.next_cursor

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: BaseModel | None = None,
        content: bytes | Callable[[], AsyncIterator[bytes]] | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
        base: str = BASE,
    ) -> httpx.Response:
        """The answer, its body read. Raises ApiError for a problem, TransportError for none.

        `content` is the raw body, or makes a fresh stream of it for each try. What is not
        `repeatable` is tried again only when the connection could not be made at all.
        """
        inside = current_run()
        fields = {**({} if inside is None else inside.headers()), **(headers or {})}
        if body is not None:
            content = body.model_dump_json(exclude_unset=True, by_alias=True).encode()
            fields["content-type"] = "application/json"
        tries = 0
        while True:
            tries += 1
            try:
                answer = await self._http.request(
                    method,
                    base + path,
                    params=given(query),
                    content=content() if callable(content) else content,
                    headers=fields,
                )
            except httpx.TransportError as error:
                may_repeat = repeatable or isinstance(
                    error, httpx.ConnectError | httpx.ConnectTimeout
                )
                if tries > self._retries or not may_repeat:
                    raise transport_error(error, self._http.base_url) from error
                await pause(backoff(tries))
                continue
            if answer.status_code < 400:
                return answer
            refused = answer.status_code == 429
            if (
                answer.status_code not in NOT_READY
                or tries > self._retries
                or not (repeatable or refused)
            ):
                raise error_of(problem_of(answer), retry_after(answer))
            asked = retry_after(answer)
            await pause(backoff(tries) if asked is None else min(asked, LONGEST_RETRY_AFTER_S))

    @asynccontextmanager
    async def lines(
        self, path: str, query: Query, headers: Mapping[str, str], silence_s: float
    ) -> AsyncIterator[AsyncIterator[str]]:
        """The lines of an answer that goes on; tried once. Silence ends it as TransportError."""
        timeout = httpx.Timeout(10.0, read=silence_s)
        try:
            async with self._http.stream(
                "GET", BASE + path, params=given(query), headers=dict(headers), timeout=timeout
            ) as answer:
                if answer.status_code >= 400:
                    await answer.aread()
                    raise error_of(problem_of(answer), retry_after(answer))
                yield answer.aiter_lines()
        except httpx.TransportError as error:
            raise transport_error(error, self._http.base_url) from error

    @asynccontextmanager
    async def body(self, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of a file-like answer, as they arrive; tried once."""
        try:
            async with self._http.stream("GET", BASE + path) as answer:
                if answer.status_code >= 400:
                    await answer.aread()
                    raise error_of(problem_of(answer), retry_after(answer))
                yield answer.aiter_bytes()
        except httpx.TransportError as error:
            raise transport_error(error, self._http.base_url) from error


def given(query: Query | None) -> dict[str, str | int]:
    return {key: value for key, value in (query or {}).items() if value is not None}


def backoff(tries: int) -> float:
    """Seconds to wait after this many tries: doubling, capped, with full jitter."""
    return random.uniform(0.05, min(FIRST_PAUSE_S * 2 ** (tries - 1), LONGEST_PAUSE_S))


def retry_after(answer: httpx.Response) -> float | None:
    value = answer.headers.get("retry-after", "")
    return float(value) if value.isdigit() else None


def problem_of(answer: httpx.Response) -> Problem:
    """The problem document of an answer; one made up where something else answered."""
    try:
        return Problem.model_validate_json(answer.content)
    except ValidationError:
        return Problem(
            title=f"{answer.status_code} {answer.reason_phrase}".strip(),
            status=answer.status_code,
            code="unknown",
            detail=f"{answer.request.url} answered {answer.status_code} without saying why",
            help="Is this the address of Roundsman, and not of something in front of it?",
        )


def parse(answer: httpx.Response, kind: type[M]) -> M:
    try:
        return kind.model_validate_json(answer.content)
    except ValidationError as error:
        raise not_ours(str(answer.request.url), error) from error


def parse_json(text: str | bytes, kind: Any) -> Any:
    """A JSON text as any type pydantic knows."""
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        raise not_ours("the service", error) from error


def decode(answer: httpx.Response) -> Any:
    try:
        return json.loads(answer.content)
    except ValueError as error:
        raise TransportError(f"{answer.request.url} did not answer with JSON") from error


def not_ours(who: str, error: ValidationError) -> TransportError:
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"])) or "the body"
    return TransportError(
        f"{who} answered something this client does not understand ({place}: {first['msg']}); "
        "is it Roundsman, and not much older or newer than this client?"
    )


def transport_error(error: httpx.TransportError, url: httpx.URL) -> TransportError:
    said = str(error) or type(error).__name__
    return TransportError(f"{url} cannot be reached: {said}")
