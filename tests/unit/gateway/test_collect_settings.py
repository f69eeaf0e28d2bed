"""What settings say of a device's state, and what of it is refused."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.collect_settings import Collect

pytestmark = pytest.mark.row("E2")


def test_one_point_or_several_and_a_deadband_for_all_or_by_name():
    one = Collect.model_validate({"read": "speed", "deadband": 2})
    assert one.read == ["speed"]
    assert one.worth.band("speed") == 2
    named = Collect.model_validate(
        {"read": ["speed", "bar"], "deadband": {"bar": 0.1}, "as": "x", "at_least": "1m"}
    )
    assert (named.worth.band("bar"), named.worth.band("speed")) == (0.1, 0)
    assert (named.name, named.worth.at_least_ms) == ("x", 60_000)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"read": "speed", "command": "version"},
        {"published": True, "every": "1m"},
        {"read": "speed", "every": "1ms"},
        {"read": "speed", "parameters": {"a": 1}},
        {"read": "speed", "often": True},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]):
    with pytest.raises(ValidationError):
        Collect.model_validate(wrong)
