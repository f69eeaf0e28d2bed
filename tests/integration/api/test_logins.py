"""Logins of browsers: opaque, expiring, ended at once, good for reading the API and no more."""

from datetime import timedelta

import pytest

from cloud.coordinator import access, logins
from cloud.errors import NotPermitted
from cloud.storage.dialect import fetch
from tests.integration.api.conftest import NOW, TOKEN

HOUR = timedelta(hours=1)


async def log_in(api, secret, token=TOKEN, now=NOW):
    return await api.database.run(logins.log_in, token, secret, now, HOUR)


async def test_a_session_stands_for_the_same_person_until_it_expires(api):
    caller = await log_in(api, "s1")
    assert (caller.name, caller.role) == ("administrator", "administrator")
    later = NOW + 3_600_000
    assert await api.database.read(access.authenticate, "s1", later - 1) == caller
    with pytest.raises(NotPermitted):
        await api.database.read(access.authenticate, "s1", later)
    await log_in(api, "s2", now=later)  # and what has expired is gone
    rows = await api.database.read(fetch, "SELECT count(*) FROM tokens WHERE expires_at > 0")
    assert rows[0][0] == 1


async def test_a_wrong_token_and_a_session_open_none(api):
    await log_in(api, "s1")
    for token in ("wrong", "", "s1"):
        with pytest.raises(NotPermitted):
            await log_in(api, "s2", token)


async def test_logging_out_ends_a_session_and_never_a_token(api):
    await log_in(api, "s1")
    for secret in ("s1", "s1", TOKEN):
        await api.database.run(logins.log_out, secret)
    with pytest.raises(NotPermitted):
        await api.database.read(access.authenticate, "s1", NOW)
    assert await api.database.read(access.authenticate, TOKEN, NOW)


async def test_nothing_secret_is_stored(api):
    await log_in(api, "s1-secret")
    rows = await api.database.read(fetch, "SELECT * FROM tokens")
    assert "s1-secret" not in str(rows)
    assert TOKEN not in str(rows)


async def test_the_cookie_reads_the_api_and_changes_nothing(api):
    await log_in(api, "s1")
    async with api.client_with(None) as browser:
        browser.cookies.set(logins.cookie_name(is_secure=False), "s1")
        assert (await browser.get("/api/v1/jobs")).status_code == 200
        answer = await browser.post("/api/v1/jobs", content="name: x")
        assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


def test_forms_carry_what_only_our_pages_know():
    token = logins.csrf_token("s1")
    logins.check_csrf("s1", token)
    for given in ("", "x", "ü", logins.csrf_token("s2")):
        with pytest.raises(NotPermitted):
            logins.check_csrf("s1", given)


def test_the_cookie_is_as_strict_as_the_address_allows():
    plain, secure = (logins.session_cookie(is_secure, HOUR) for is_secure in (False, True))
    assert (plain.name, plain.settings["secure"]) == ("roundsman-session", False)
    assert (secure.name, secure.settings["secure"]) == ("__Host-roundsman-session", True)
    for cookie in (plain, secure):
        assert cookie.settings["httponly"]
        assert cookie.settings["samesite"] == "lax"
        assert cookie.settings["path"] == "/"
        assert cookie.settings["max_age"] == 3600
