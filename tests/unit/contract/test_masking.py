"""Secrets in what is shown."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from contract.masking import MASK, masked

pytestmark = pytest.mark.row("C6")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def test_what_is_named_like_a_secret_is_masked_and_a_template_is_not():
    given: dict[str, JsonValue] = {
        "headers": {"Authorization": "Bearer abc", "Accept": "*/*"},
        "body": [{"password": "x", "apiKey": {"a": 1}, "note": "y"}],
        "token": "{{ secrets.hub }}",
        "secret": None,
    }
    assert masked(given) == {
        "headers": {"Authorization": MASK, "Accept": "*/*"},
        "body": [{"password": MASK, "apiKey": MASK, "note": "y"}],
        "token": "{{ secrets.hub }}",
        "secret": None,
    }


@given(JSON, st.sampled_from(["password", "db_passwd", "X-Api-Key", "clientSecret"]))
def test_nothing_under_such_a_name_is_shown_however_deep(value, name):
    deep: JsonValue = {"a": [{"b": {name: "the-hidden-value", "rest": value}}]}
    assert "the-hidden-value" not in json.dumps(masked(deep))


@given(JSON)
def test_masking_twice_is_masking_once(value):
    assert masked(masked(value)) == masked(value)


def test_what_was_computed_is_masked_even_if_it_looks_like_a_template():
    assert masked({"password": "{{ x }}"}, is_written=False) == {"password": MASK}
    assert masked([{"password": ""}], is_written=False) == [{"password": ""}]
