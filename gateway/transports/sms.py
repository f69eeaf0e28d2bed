"""Text messages for steps, through a web service that the operator has configured."""

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlencode, urlsplit

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from contract.durations import Duration, parse_duration
from gateway.errors import DeviceUnreachable, StepInvalid
from gateway.transports.secret_files import secret_of
from gateway.transports.web import Network, NotConnected, Web, WebAnswer, WebClient, WebRequest

ANSWER_WITHIN: Final = parse_duration("30s")
MAX_ANSWER: Final = 4_096
SHOWN: Final = 200
_PLACE: Final = re.compile(r"\{(to|text)\}")
# The address is the operator's own, never a job's, so it may be an inner one; redirects are not
# followed, or the service could send us elsewhere.
_EVERYWHERE: Final[Sequence[Network]] = (
    ipaddress.IPv4Network("0.0.0.0/0"),
    ipaddress.IPv6Network("::/0"),
)


class SmsOptions(BaseModel):
    """The web service of the steps `notify.sms`, asked once for each receiver.

    Its address is yours, so it may be an inner one. Redirects are not followed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(description="where a message is handed over")
    method: Literal["POST", "PUT"] = "POST"
    headers: dict[str, str] = Field(default_factory=dict, max_length=50)
    token: str | None = Field(default=None, description="sent as `Authorization: Bearer`")
    token_file: Path | None = Field(default=None, description="a file that holds the token")
    body: dict[str, JsonValue] = Field(
        default={"to": "{to}", "text": "{text}"},
        description="what is sent; `{to}` and `{text}` are put in, in any text of it",
    )
    encoding: Literal["json", "form"] = Field(
        default="json", description="how the body is written: as JSON, or as a web form"
    )
    accept: list[Annotated[int, Field(ge=200, le=399)]] = Field(
        default=[200, 201, 202, 204], min_length=1, description="statuses that mean it was taken"
    )
    timeout: Duration = Field(default=ANSWER_WITHIN, description="how long one request may take")

    @model_validator(mode="after")
    def _check(self) -> Self:
        place = urlsplit(self.url)
        if place.scheme not in ("http", "https") or not place.hostname:
            raise ValueError(f"url: `{self.url}` is no http:// or https:// address")
        if place.username or place.password:
            raise ValueError("url: put no user name or password into the address")
        if self.token is not None and self.token_file is not None:
            raise ValueError("token and token_file: give one of them")
        shown = str(self.body)
        if "{to}" not in shown or "{text}" not in shown:
            raise ValueError("body: `{to}` and `{text}` have to stand in it")
        return self

    def hook(self) -> "SmsHook":
        """The way to the service. Raises SettingsInvalid when the token's file cannot be read."""
        token = secret_of(self.token, self.token_file, "sms.token_file")
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        return SmsHook(
            url=self.url,
            method=self.method,
            headers={**bearer, **self.headers},
            body=self.body,
            encoding=self.encoding,
            accept=self.accept,
            timeout_s=self.timeout.total_seconds(),
        )


def filled(template: JsonValue, to: str, text: str) -> JsonValue:
    """The template with `{to}` and `{text}` put in; what is put in is not looked at again."""
    if isinstance(template, str):
        return _PLACE.sub(lambda found: to if found[1] == "to" else text, template)
    if isinstance(template, dict):
        return {name: filled(value, to, text) for name, value in template.items()}
    if isinstance(template, list):
        return [filled(value, to, text) for value in template]
    return template


@dataclass(frozen=True)
class SmsHook:
    """One request for each receiver. `body` is an object with the places `{to}` and `{text}`."""

    url: str
    method: Literal["POST", "PUT"]
    headers: Mapping[str, str]
    body: Mapping[str, JsonValue]
    encoding: Literal["json", "form"]
    accept: Sequence[int]
    timeout_s: float
    web: WebClient = field(default_factory=lambda: Web(_EVERYWHERE))

    async def deliver(self, to: str, text: str, key: str) -> None:
        """Hand one message over; `key` is the same for every try.

        Raises StepInvalid (`sms_failed`) when it was not taken, DeviceUnreachable when it may
        have been.
        """
        body, kind = self._body(to, text)
        request = WebRequest(
            method=self.method,
            url=self.url,
            headers={
                "User-Agent": "roundsman",
                "Accept-Encoding": "identity",
                "Content-Type": kind,
                "Idempotency-Key": key,
                **self.headers,
            },
            body=body,
            timeout_s=self.timeout_s,
            max_bytes=MAX_ANSWER,
        )
        try:
            answer = await self.web.ask(request)
        except NotConnected as error:
            raise StepInvalid(str(error), "sms_failed") from error
        if answer.status >= 500:
            raise DeviceUnreachable(self._said(answer))
        if answer.status not in self.accept:
            raise StepInvalid(self._said(answer), "sms_failed")

    def _body(self, to: str, text: str) -> tuple[bytes, str]:
        body = filled(dict(self.body), to, text)
        assert isinstance(body, dict)
        if self.encoding == "json":
            return json.dumps(body).encode(), "application/json"
        fields = {k: v if isinstance(v, str) else json.dumps(v) for k, v in body.items()}
        return urlencode(fields).encode(), "application/x-www-form-urlencoded"

    def _said(self, answer: WebAnswer) -> str:
        """What the service answers, without the credentials, should it repeat them."""
        shown = answer.body.decode("utf-8", "replace").strip()
        for value in self.headers.values():
            for word in {value, value.rpartition(" ")[2]}:
                shown = shown.replace(word, "***") if len(word) > 3 else shown
        return f"the service answers {answer.status}{f': {shown[:SHOWN]}' if shown else ''}"
