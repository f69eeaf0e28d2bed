"""Each HTTP status becomes the error that says what the caller does next."""

import pytest

from contract.http.problems import CODES, Problem
from contract.lifecycle import RunStatus
from roundsman import errors
from tests.kit.fake_api import a_run


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequest),
        (401, errors.NotAuthenticated),
        (403, errors.NotPermitted),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (412, errors.Changed),
        (422, errors.BadRequest),
        (429, errors.RateLimited),
        (500, errors.ServerError),
        (503, errors.ServerError),
    ],
)
def test_a_status_has_its_error(status, kind):
    error = errors.error_of(Problem(title="It went wrong", status=status, code="x"))
    assert type(error) is kind
    assert isinstance(error, errors.RoundsmanError)
    assert str(error) == "It went wrong"


def test_every_code_of_the_contract_has_an_error():
    for code, (status, title) in CODES.items():
        error = errors.error_of(Problem(title=title, status=status, code=code, detail="this one"))
        assert error.problem.code == code
        assert str(error) == "this one"


def test_a_conflict_names_the_run_in_the_way():
    problem = Problem(title="t", status=409, code="run_in_flight", run="r1")
    error = errors.error_of(problem)
    assert isinstance(error, errors.Conflict)
    assert error.run == "r1"


def test_a_timeout_knows_the_run_it_waited_for():
    error = errors.Timeout(a_run(RunStatus.PAUSED))
    assert "is still paused" in str(error)
