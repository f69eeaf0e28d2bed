"""ETags: a revision as a strong tag, and what a request says about the one it has seen."""

import re
from typing import Final

from fastapi import Request

from cloud.errors import Invalid

_TAG: Final = re.compile(r'"([^"]*)"')
_REVISION: Final = re.compile(r'"(\d{1,15})"', re.ASCII)


def etag(value: object) -> str:
    return f'"{value}"'


def is_known(request: Request, tag: str) -> bool:
    """Whether `If-None-Match` names the tag: the caller has it already."""
    header = request.headers.get("if-none-match", "")
    return header.strip() == "*" or tag.strip('"') in _TAG.findall(header)


def expected_revision(request: Request) -> int | None:
    """The revision of `If-Match`; None when the request does not care. Raises Invalid."""
    header = request.headers.get("if-match", "").strip()
    if not header or header == "*":
        return None
    match = _REVISION.fullmatch(header)
    if match is None:
        raise Invalid("invalid", "If-Match holds one revision in quotes, as ETag gave it")
    return int(match[1])
