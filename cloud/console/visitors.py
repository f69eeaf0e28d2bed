"""Who looks at a page: the session of a browser, the token its forms carry, the login page."""

from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import quote, urlsplit

from fastapi import Depends, Form, Request
from fastapi.responses import RedirectResponse, Response

from cloud.console.pages import Frame, LoginPage, render
from cloud.coordinator import access, logins
from cloud.coordinator.access import Caller
from cloud.coordinator.services import Services
from cloud.errors import NotPermitted

# Nothing but our own files; no inline script or style, so that injected markup stays harmless.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {"content-security-policy": POLICY, "cache-control": "no-store"}


class LoginNeeded(Exception):
    """The visitor has no session; `wanted` is where to go afterwards."""

    def __init__(self, wanted: str) -> None:
        super().__init__(wanted)
        self.wanted = wanted


@dataclass(frozen=True)
class Visitor:
    """A person with a session."""

    services: Services
    caller: Caller
    secret: str

    @property
    def frame(self) -> Frame:
        return Frame(user=self.caller.name, csrf=logins.csrf_token(self.secret))


def services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def visitor_of(request: Request) -> Visitor:
    """The visitor, by cookie. Raises LoginNeeded."""
    services = services_of(request)
    secret = request.cookies.get(logins.cookie_name(services.has_secure_cookies), "")
    wanted = f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
    try:
        caller = await services.database.run(access.authenticate, secret, services.clock())
    except NotPermitted:
        raise LoginNeeded(wanted if request.method == "GET" else "/") from None
    return Visitor(services, caller, secret)


async def poster_of(request: Request, csrf: Annotated[str, Form()] = "") -> Visitor:
    """The visitor who sent a form of ours. Raises LoginNeeded, NotPermitted."""
    visitor = await visitor_of(request)
    logins.check_csrf(visitor.secret, csrf)
    return visitor


VisitorOf = Annotated[Visitor, Depends(visitor_of)]
PosterOf = Annotated[Visitor, Depends(poster_of)]


def html(text: str, status: int = 200) -> Response:
    return Response(text, status, HEADERS, media_type="text/html; charset=utf-8")


def see_other(href: str) -> Response:
    """After a form: the page it leads to, by GET."""
    return RedirectResponse(href, status_code=303, headers=HEADERS)


def to_login(wanted: str) -> Response:
    return see_other(f"/login?next={quote(wanted)}" if wanted != "/" else "/login")


def show_login(next: str = "/") -> Response:
    return html(render(LoginPage(frame=Frame(), next=_inside(next))))


async def log_in(
    request: Request, token: Annotated[str, Form()], next: Annotated[str, Form()] = "/"
) -> Response:
    services = services_of(request)
    secret, lasts = services.new_secret(), services.limits.session_lasts
    try:
        await services.database.run(logins.log_in, token.strip(), secret, services.clock(), lasts)
    except NotPermitted:
        problem = "That token is not known, or was revoked."
        page = LoginPage(frame=Frame(), next=_inside(next), problem=problem)
        return html(render(page), 401)
    response = see_other(_inside(next))
    cookie = logins.session_cookie(services.has_secure_cookies, lasts)
    response.set_cookie(cookie.name, secret, **cookie.settings)
    return response


async def log_out(visitor: PosterOf) -> Response:
    await visitor.services.database.run(logins.log_out, visitor.secret)
    response = see_other("/login")
    response.delete_cookie(logins.cookie_name(visitor.services.has_secure_cookies), path="/")
    return response


def _inside(href: str) -> str:
    """The address if it is a page of ours: a login must not lead elsewhere."""
    parts = urlsplit(href)
    is_ours = not parts.scheme and not parts.netloc and href.startswith("/")
    return href if is_ours and not href.startswith(("//", "/\\")) else "/"
