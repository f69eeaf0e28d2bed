"""Logins to the console: a token becomes an opaque session of a browser, which expires.

A session is a token of its own, kept as a hash in the database: it survives a restart, every
replica knows it, and logging out ends it at once.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final

from cloud.coordinator.access import Caller, authenticate, hash_of
from cloud.errors import NotPermitted
from cloud.storage import instance
from cloud.storage.database import Session
from cloud.storage.schema import TokenRow

NAME: Final = "roundsman-session"


@dataclass(frozen=True)
class Cookie:
    """The cookie of a session. `settings` are the keyword arguments of `Response.set_cookie`."""

    name: str
    settings: Mapping[str, Any]


def cookie_name(is_secure: bool) -> str:
    """The cookie's name. `__Host-` has browsers insist on TLS, one host and the whole path."""
    return f"__Host-{NAME}" if is_secure else NAME


def session_cookie(is_secure: bool, lasts: timedelta) -> Cookie:
    """How the cookie is set: not for scripts, not sent along by forms of other sites."""
    return Cookie(
        cookie_name(is_secure),
        {
            "max_age": int(lasts.total_seconds()),
            "path": "/",
            "secure": is_secure,
            "httponly": True,
            "samesite": "lax",
        },
    )


def log_in(session: Session, token: str, secret: str, now: int, lasts: timedelta) -> Caller:
    """Open a session for whoever holds `token`; `secret` becomes the cookie's value.

    Raises NotPermitted("not_authenticated"). A session cannot open another one.
    """
    instance.drop_expired_tokens(session, now)
    row = instance.token_of_hash(session, hash_of(token), now)
    if row is None or row.expires_at is not None:
        raise NotPermitted("not_authenticated", "no token like this, or it was revoked")
    session.add(
        TokenRow(
            id=f"login-{hash_of(secret)[:32]}",
            org=row.org,
            name=row.name,
            role=row.role,
            hash=hash_of(secret),
            created_at=now,
            expires_at=now + int(lasts.total_seconds() * 1000),
        )
    )
    session.flush()
    return authenticate(session, secret, now)


def log_out(session: Session, secret: str) -> None:
    """End a session; one that has ended already stays so."""
    instance.drop_token(session, hash_of(secret))


def csrf_token(secret: str) -> str:
    """What the forms of a session carry: only a page of ours can know it."""
    return sha256(f"csrf {secret}".encode()).hexdigest()


def check_csrf(secret: str, given: str) -> None:
    """Raise NotPermitted unless a form came from a page of this session."""
    if not hmac.compare_digest(csrf_token(secret).encode(), given.encode()):
        raise NotPermitted("not_permitted", "the form is not from this session: load the page anew")
