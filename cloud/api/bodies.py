"""Request bodies: read with a bound, then YAML or JSON to models with line, column and key."""

from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel

from cloud.api.access import services_of
from cloud.errors import Invalid
from contract.documents import load

M = TypeVar("M", bound=BaseModel)

# What curl and others call a body when nobody has said what it is.
UNSAID = ("", "application/x-www-form-urlencoded")
_YAML = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/plain")


async def read_text(request: Request) -> str:
    """The whole body as text. Raises Invalid (`too_large`, or not UTF-8)."""
    limit = services_of(request).limits.max_body_bytes
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise Invalid("too_large", f"the body has more than {limit} bytes")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise Invalid("invalid", f"the body is not UTF-8: byte {error.start}") from None


async def read_body(request: Request, model: type[M]) -> M:
    """The JSON body as a model; no body is an empty object. Raises DocumentInvalid, Invalid."""
    text = await read_text(request)
    return load(text if text.strip() else "{}", model, "body")


async def read_document(request: Request, model: type[M]) -> M:
    """A YAML or JSON document as a model; errors then carry the code `document_invalid`."""
    request.state.invalid_code = "document_invalid"
    text = await read_text(request)
    media_type = media_type_of(request)
    known = media_type in (*UNSAID, *_YAML) or media_type.endswith("json")
    if not known:
        raise Invalid("invalid", f"`{media_type}` is neither application/yaml nor application/json")
    return load(text, model, "body")


def media_type_of(request: Request) -> str:
    """What the request says its body is, without parameters."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def body_schema(
    model: type[BaseModel], *media_types: str, required: bool = True
) -> dict[str, object]:
    """What OpenAPI says of a body that a route reads by itself."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    content = {name: {"schema": schema} for name in media_types or ("application/json",)}
    return {"requestBody": {"required": required, "content": content}}
