"""The flat list of public names is exactly what users may build on."""

import subprocess
import sys

import roundsman


def test_the_public_names_are_exactly_these():
    assert roundsman.__all__ == [
        "ApiError",
        "AsyncRoundsman",
        "BadRequest",
        "Changed",
        "Conflict",
        "CurrentRun",
        "Gone",
        "NotAuthenticated",
        "NotFound",
        "NotPermitted",
        "RateLimited",
        "Roundsman",
        "RoundsmanError",
        "ServerError",
        "Timeout",
        "TransportError",
        "Unreachable",
        "current_run",
        "current_run_id",
        "entered_run",
    ]
    assert dir(roundsman) == roundsman.__all__


def test_every_public_name_is_there_under_its_own_name():
    for name in roundsman.__all__:
        assert getattr(roundsman, name).__name__ == name
    assert not hasattr(roundsman, "no_such_name")


def test_importing_the_package_alone_needs_no_http():
    code = "import roundsman, sys; sys.exit('httpx' in sys.modules or 'pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
