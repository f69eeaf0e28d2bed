"""http.request: ask a web service, and take its answer as the result."""

import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from pydantic import JsonValue

from contract.steps import AfterRestart, RequestParameters
from gateway.actions.base import (
    Action,
    Call,
    Reach,
    StepDone,
    StepOutcome,
    StepRefused,
    StepUnanswered,
    parsed,
    stamp_of,
)
from gateway.domain.call_keys import call_key
from gateway.domain.seconds import seconds_of
from gateway.errors import DeviceUnreachable
from gateway.transports.web import NotConnected, WebAnswer, WebRequest

# Doing these again is what they were made for (RFC 9110, 9.2.2).
REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


class HttpRequest:
    """A request names its run, task and attempt, and what would repeat it, in its headers.

    After a restart it is asked again where that is harmless by its method; any other may have
    happened, so it fails as interrupted.
    """

    after_restart = AfterRestart.ASK

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        asked = parsed(RequestParameters, call)
        if call.resumed and asked.method not in REPEATABLE:
            return StepUnanswered("interrupted", f"{asked.method} {asked.url} may have happened")
        body, headers = _body(asked)
        request = WebRequest(
            method=asked.method,
            url=_with_query(asked),
            headers={**headers, **_headers(call), **asked.headers},
            body=body,
            timeout_s=min(seconds_of(asked.timeout), call.timeout_s),
            max_bytes=asked.max_bytes,
            redirects=asked.redirects,
        )
        try:
            answer = await reach.web.ask(request)
        except NotConnected as error:
            return StepRefused("http_failed", str(error))
        except DeviceUnreachable as error:
            return StepUnanswered("http_failed", str(error))
        result = _result(answer)
        is_good = answer.status in asked.accept if asked.accept else answer.status < 400
        if not is_good:
            return StepRefused("http_failed", f"the service answers {answer.status}", result)
        return StepDone(result)


def _headers(call: Call) -> dict[str, str]:
    stamp = stamp_of(call)
    again = call_key(
        stamp["run"], stamp["task"], call.step, call.item, dict(call.parameters), call.key
    )
    return {
        "User-Agent": "roundsman",
        "Accept-Encoding": "identity",
        "X-Roundsman-Run": stamp["run"],
        "X-Roundsman-Task": stamp["task"],
        "X-Roundsman-Attempt": stamp["attempt"],
        "Idempotency-Key": again,
    }


def _body(asked: RequestParameters) -> tuple[bytes | None, dict[str, str]]:
    if asked.text is not None:
        return asked.text.encode(), {"Content-Type": "text/plain; charset=utf-8"}
    if "json_" in asked.model_fields_set:
        return json.dumps(asked.json_).encode(), {"Content-Type": "application/json"}
    return None, {}


def _with_query(asked: RequestParameters) -> str:
    if not isinstance(asked.query, dict) or not asked.query:
        return asked.url
    values = {k: v if isinstance(v, str) else json.dumps(v) for k, v in asked.query.items()}
    return f"{asked.url}{'&' if '?' in asked.url else '?'}{urlencode(values)}"


def _result(answer: WebAnswer) -> dict[str, JsonValue]:
    headers: dict[str, JsonValue] = dict(answer.headers)
    return {
        "status": answer.status,
        "headers": headers,
        "body": _content(answer.headers, answer.body, answer.is_cut),
        "truncated": answer.is_cut,
    }


def _content(headers: Mapping[str, str], body: bytes, is_cut: bool) -> JsonValue:
    text = body.decode("utf-8", "replace")
    if "json" in headers.get("content-type", "") and not is_cut:
        try:
            value: JsonValue = json.loads(text)
        except (ValueError, RecursionError):
            return text
        return value
    return text


ACTIONS: dict[str, Action] = {"http.request": HttpRequest()}
