"""Who asks: a bearer token, or for reading only the console's session cookie."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from cloud.coordinator import access, logins
from cloud.coordinator.access import Caller
from cloud.coordinator.services import Services
from cloud.errors import NotPermitted
from contract.topics import Address

# For OpenAPI: what it finds is read below, so that every refusal is a problem document.
BEARER = HTTPBearer(auto_error=False, description="A token of this service.")

_READING = frozenset({"GET", "HEAD"})


def services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def bearer_of(request: Request) -> str | None:
    """The token of `Authorization: Bearer ...`."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


async def caller_of(request: Request, _: Annotated[object, Depends(BEARER)] = None) -> Caller:
    """Who asks. Raises NotPermitted.

    A cookie counts for reading only: browsers send it along with requests other sites make.
    """
    services = services_of(request)
    token = bearer_of(request)
    if token is None and request.method in _READING:
        token = request.cookies.get(logins.cookie_name(services.has_secure_cookies))
    if not token:
        raise NotPermitted("not_authenticated", "the request carries no token")
    now = services.clock()
    caller = await services.database.read(access.authenticate, token, now)
    if now - services.touched.get(caller.id, 0) >= access.TOUCH_EVERY_MS:
        services.touched[caller.id] = now
        await services.database.run(access.touch, caller, now)
    return caller


async def reader_of_artifacts(request: Request) -> Caller | Address:
    """Who fetches an artifact: a gateway by its own token, or a person. Raises NotPermitted."""
    services = services_of(request)
    token = bearer_of(request)
    if token is not None:
        try:
            return await services.database.read(access.authenticate_gateway, token)
        except NotPermitted:
            pass
    return await caller_of(request)


CallerOf = Annotated[Caller, Depends(caller_of)]
ServicesOf = Annotated[Services, Depends(services_of)]
