import json
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from contract import documents
from contract.documents import DocumentInvalid


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Webhook(Strict):
    type: Literal["webhook"]
    url: str


class Table(Strict):
    type: Literal["table"]
    table: str
    limit: int = 1


class Explicit(Strict):
    topic: str


class Step(Strict):
    uses: str
    parameters: dict[str, JsonValue] = Field(default={}, alias="with")


class Window(Strict):
    begin: str = Field(alias="from")


class Job(Strict):
    name: str
    targets: dict[str, JsonValue] = {}
    steps: list[Step] = []
    acknowledge: Literal["steps"] | Explicit = "steps"
    sinks: list[Annotated[Webhook | Table, Field(discriminator="type")]] = []
    window: Window | None = None
    version: str = "1"
    retry: dict[str, list[str]] = {}


def lines_of(text: str) -> list[str]:
    with pytest.raises(DocumentInvalid) as caught:
        documents.load(text, Job, "job.yaml")
    return str(caught.value).splitlines()


def test_a_document_becomes_a_model():
    job = documents.load('{"name": "a", "window": {"from": "22:00"}}', Job, "job.json")
    assert job == Job(name="a", window=Window.model_validate({"from": "22:00"}))


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("on", "on"), ("yes", "yes"), ("No", "No"), ("true", True), ("FALSE", False),
        ("22:00", "22:00"), ("190:20:30", "190:20:30"), ("2026-01-02", "2026-01-02"),
        ("007", "007"), ("0o17", 15), ("0x1F", 31), ("1_000", "1_000"), ("12", 12), ("-3", -3),
        ("2.5", 2.5), ("1e3", 1000.0), (".5", 0.5), ("2.4.1", "2.4.1"), (".inf", ".inf"),
        (".nan", ".nan"), ("~", None), ("null", None), ("", None), ("'12'", "12"),
        ("!!str 12", "12"), ("=", "="), ("0b11", "0b11"), ("٣", "٣"),
    ],
)  # fmt: skip
def test_scalars_are_read_by_yaml_1_2(written, value):
    found = documents.load_value(f"key: {written}\n", "a.yaml")
    assert found == {"key": value}
    assert isinstance(found, dict)
    assert type(found["key"]) is type(value)


def test_keys_are_text_whatever_they_look_like():
    found = documents.load_value("{on: 1, true: 2, 5: 3, ~: 4, 22:00: 5}", "a.yaml")
    assert found == {"on": 1, "true": 2, "5": 3, "~": 4, "22:00": 5}


def test_a_misspelt_key_names_its_line_and_the_nearest_key():
    assert lines_of("name: a\ntragets: {}\n") == [
        "job.yaml:2:1: tragets: unknown key `tragets`; did you mean `targets`? "
        "(known: name, targets, steps, acknowledge, sinks, window, version, retry)"
    ]


def test_aliased_keys_are_known_by_their_alias():
    text = "name: a\nsteps:\n  - uses: x\n    wiht: {}\n"
    (line,) = lines_of(text)
    assert line.startswith("job.yaml:4:5: steps[0].wiht: unknown key `wiht`; did you mean `with`?")


def test_a_missing_key_is_shown_where_its_parent_stands():
    assert lines_of("name: a\n\nwindow: {}\n") == ["job.yaml:3:1: window.from: missing key `from`"]
    assert lines_of("version: a") == ["job.yaml:1:1: name: missing key `name`"]


def test_a_number_where_text_is_wanted_says_how_to_write_it():
    assert lines_of("name: a\nversion: 2.4\n") == [
        "job.yaml:2:10: version: input should be a valid string; put it in quotes"
    ]


def test_a_tagged_union_speaks_of_the_member_that_was_meant():
    text = "name: a\nsinks:\n  - {type: table, tabel: x}\n  - {type: tabel, table: x}\n"
    assert lines_of(text) == [
        "job.yaml:3:5: sinks[0].table: missing key `table`",
        "job.yaml:3:19: sinks[0].tabel: unknown key `tabel`; did you mean `table`? "
        "(known: type, table, limit)",
        "job.yaml:4:5: sinks[1]: `tabel` is no known type; did you mean `table`? "
        "(known: webhook, table)",
    ]


def test_a_union_says_once_what_was_wrong():
    assert lines_of("name: a\nacknowledge: 5\n") == [
        "job.yaml:2:14: acknowledge: input should be 'steps'; or input should be an object"
    ]
    lines = lines_of("name: a\nacknowledge: {topic: 5}\n")
    assert lines == [
        "job.yaml:2:22: acknowledge.topic: input should be a valid string; put it in quotes"
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1:1: the document is empty"),
        ("a: 1\nb: 2\na: 3", "3:1: key `a` stands twice, first on line 1"),
        ("a: !!python/object:os.system x", "1:4: tags such as"),
        ("a: &a [1]\nb:\n  <<: *a", "3:3: merge keys"),
        ("a: *b", "1:4: there is no anchor `&b`"),
        ("a: &a [*a]", "1:8: there is no anchor"),
        ("a: 1\n---\nb: 2", "a second document"),
        ("a: [1\n", "not YAML"),
        ("a: \ud800", "a.yaml:1:1:"),
        ("a: \x00", "not YAML"),
        ("a: 1e999", "1:4: the number is too large"),
        ("a: " + "9" * 5000, "1:4: the number is too large"),
        ("? [a]\n: 1", "a key is plain text"),
        ("[" * 100_000, "nested deeper than 64"),
        ("x" * (documents.MAX_TEXT + 1), "more than 4,000,000 characters"),
    ],
)
def test_text_that_is_no_document_is_refused_with_its_place(text, said):
    with pytest.raises(DocumentInvalid) as caught:
        documents.load_value(text, "a.yaml")
    assert said in str(caught.value)
    assert str(caught.value).startswith("a.yaml:")


def test_aliases_are_copies_and_their_copies_are_counted():
    assert documents.load_value("a: &x {b: 1}\nc: *x", "a.yaml") == {"a": {"b": 1}, "c": {"b": 1}}
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(DocumentInvalid, match="aliases counted in full"):
        documents.load_value("\n".join(levels), "bomb.yaml")


def test_a_model_is_written_in_the_order_of_its_fields_and_reads_back():
    job = documents.load(
        "name: a\nretry: {on: [failed]}\nwindow: {from: 22:00}\n"
        "steps: [{uses: u, with: {text: 'x\\n', none: null, on: 1e5, two: \"1e5\"}}]",
        Job,
        "a.yaml",
    )
    text = documents.dump(job)
    assert text.index("name:") < text.index("steps:") < text.index("window:")
    assert documents.load(text, Job, "b.yaml") == job
    assert documents.load(documents.dump(job, defaults=False), Job, "b.yaml") == job
    assert "acknowledge" not in documents.dump(job, defaults=False)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=40)
    | st.from_regex(r"\A[-+0-9.eEoxX:_~ynotrufals]{1,8}\Z")
)
VALUES: st.SearchStrategy[JsonValue] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(st.text(max_size=150), VALUES, min_size=1, max_size=4))
def test_any_value_survives_being_written_and_read(value):
    assert documents.load_value(documents.dump_value(value), "a.yaml") == value


@settings(deadline=None, max_examples=200)
@given(st.text() | st.text(alphabet="{}[]:,-&*!|>'\"#?% \n\tnamestp01", max_size=60))
def test_any_text_is_read_or_refused_as_a_document(text):
    try:
        documents.load(text, Job, "any.yaml")
    except DocumentInvalid as error:
        assert error.problems
        assert all(problem.line >= 1 and problem.column >= 1 for problem in error.problems)


@settings(deadline=None, max_examples=100)
@given(
    st.dictionaries(
        st.sampled_from(["name", "steps", "sinks", "acknowledge", "window", "retry", "other"]),
        VALUES | st.lists(st.fixed_dictionaries({"type": st.just("table"), "table": VALUES})),
        min_size=1,
    )
)
def test_any_value_in_any_field_is_read_or_refused_as_a_job(value):
    try:
        documents.load(documents.dump_value(value), Job, "any.yaml")
    except DocumentInvalid as error:
        assert error.problems


@settings(deadline=None, max_examples=150)
@given(
    st.dictionaries(st.text(max_size=90), VALUES, min_size=1, max_size=4),
    st.sampled_from([None, 2, "\t"]),
    st.booleans(),
)
def test_json_is_read_as_json(value, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    try:
        assert documents.load_value(text, "a.json") == value
    except DocumentInvalid:
        assert not ascii_only  # YAML's parser refuses some letters that are not escaped


def test_json_escapes_are_read_as_json_means_them():
    text = '{"a": "\\ud83d\\ude00", "b": "\\\\ud83d\\\\ude00", "c": "\\/"}'
    assert documents.load_value(text, "a.json") == json.loads(text)
