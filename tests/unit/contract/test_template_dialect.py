import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract import template_dialect as dialect
from contract.template_dialect import TemplateError, TemplateFailed, TemplateInvalid

SCOPE: dict[str, Any] = {
    "ctx": {
        "site": "berlin",
        "version": "2.4.1",
        "n": 3,
        "list": [3, 1, 2],
        "items": "a key",
        "rows": [{"a": {"b": 2}, "on": True}, {"a": {"b": 1}}],
        "text": "{{ ctx.n }}",
        "big": "x" * 1000,
    },
    "accumulator": None,
    "steps": {"before": {"result": {"version": "2.4.0", "ok": False, "none": None}}},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("{{ ctx.n }}", 3),
        (" {{ ctx.n }}", " 3"),
        ("{{ ctx.list }}", [3, 1, 2]),
        ("{{ accumulator }}", None),
        ("{{ steps.before.result.ok }}", False),
        ("pump-{{ ctx.version }}.{{ ctx.n }}", "pump-2.4.1.3"),
        ("{{ ctx.list }} {{ accumulator }} {{ true }} {{ 1.5 }}", "[3,1,2] null true 1.5"),
        ("{{ (accumulator or 0) + 1 }}", 1),
        ("{{ ctx.items }}", "a key"),
        ("{{ ctx['site'] }}", "berlin"),
        ("{{ ctx.list[0] + ctx.list[-1] }}", 5),
        ("{{ ctx.list[1:] }}", [1, 2]),
        ("{{ {'a': [1, (2, 3)]} }}", {"a": [1, [2, 3]]}),
        ("{{ 'yes' if ctx.n > 2 else 'no' }}", "yes"),
        ("{{ 1 < ctx.n <= 3 and not false }}", True),
        ("{{ 'er' in ctx.site and 3 in ctx.list and 'n' in ctx and 9 not in ctx.list }}", True),
        ("{{ 7 // 2 }}-{{ 7 % 2 }}-{{ 2 ** 10 }}-{{ -ctx.n }}", "3-1-1024--3"),
        ("{{ 'a' ~ 1 ~ null }}", "a1null"),
        ("{{ 'ab' * 2 }}", "abab"),
        ("{{ '{%' }} and }} and {{ '}}' }}", "{% and }} and }}"),
        ("a\r\n{{ ctx.n }}\r\n", "a\r\n3\r\n"),
        ("{{ 'AT\\r\\n' }}", "AT\r\n"),
        ("a {{- ctx.n -}} b", "a3b"),
        ("{{ range(3) }}", [0, 1, 2]),
        ("{{ ctx.missing | default('d') }}", "d"),
        ("{{ nobody.at.all | d(1) }}", 1),
        ("{{ accumulator | default(5, true) }}", 5),
        ("{{ ctx.site | upper | replace('BER', 'x') }}", "xLIN"),
        ("{{ ' 12 ' | trim | int + 1 }}", 13),
        ("{{ '1.5' | float | round }}", 2),
        ("{{ 'x' | int(0) }}", 0),
        ("{{ ctx.list | sort | first }} {{ ctx.list | max }} {{ ctx.list | sum }}", "1 3 6"),
        ("{{ ctx.list | map('string') | join(', ') }}", "3, 1, 2"),
        ("{{ ctx.rows | map(attribute='a.b') | list }}", [2, 1]),
        ("{{ ctx.rows | map(attribute='on', default=false) }}", [True, False]),
        ("{{ ctx.rows | selectattr('on') | length }}", 1),
        ("{{ ctx.rows | rejectattr('on', 'defined') | map(attribute='a.b') | first }}", 1),
        ("{{ ctx.rows | selectattr('a.b', 'gt', 1) | length }}", 1),
        ("{{ ctx.rows | sort(attribute='a.b') | map(attribute='a.b') }}", [1, 2]),
        ("{{ ctx.list | select('odd') }}", [3, 1]),
        ("{{ [1, true, 1, 'a', 'a'] | unique }}", [1, True, "a"]),
        ("{{ {'b': 1, 'a': 2} | dictsort }}", [["a", 2], ["b", 1]]),
        ("{{ {'b': 1} | items }}", [["b", 1]]),
        ("{{ ctx.list | tojson | fromjson | reverse }}", [2, 1, 3]),
        ("{{ 'ä' | b64encode | b64decode }}", "ä"),
        ("{{ 'a,b' | split(',') | last }}", "b"),
        ("{{ 'abc' | sha256 | length }}", 64),
    ],
)
def test_an_expression_has_a_value_of_its_own_kind(text, value):
    found = dialect.render(text, SCOPE)
    assert found == value
    assert type(found) is type(value)
    dialect.check(text)


def test_values_are_rendered_wherever_they_stand_and_keys_never():
    value: Any = {"{{ ctx.n }}": ["{{ ctx.n }}", 1, None, {"a": "v{{ ctx.n }}"}]}
    assert dialect.render(value, SCOPE) == {"{{ ctx.n }}": [3, 1, None, {"a": "v3"}]}
    assert dialect.check_value(value) == {"ctx"}


def test_a_rendered_value_is_data():
    assert dialect.render("{{ ctx.text }}", SCOPE) == "{{ ctx.n }}"
    assert dialect.render("a {{ ctx.text }}", SCOPE) == "a {{ ctx.n }}"
    found = dialect.render("{{ ctx.list }}", SCOPE)
    assert isinstance(found, list)
    found.append(4)
    assert SCOPE["ctx"]["list"] == [3, 1, 2]


def test_conditions_are_bare_expressions():
    assert dialect.is_true("steps.before.result.version != ctx.version", SCOPE)
    assert dialect.is_true("{{ ctx.n == 3 }}", SCOPE)
    assert dialect.is_true("steps.before.result.version is defined", SCOPE)
    assert dialect.is_true("steps.after.result.version is not defined", SCOPE)
    assert dialect.is_true("steps.before.result.none is none", SCOPE)
    assert not dialect.is_true("accumulator", SCOPE)
    assert dialect.evaluate("ctx.n + 1", SCOPE) == 4
    assert dialect.check_expression("steps.a.b == ctx.c") == {"steps", "ctx"}
    assert ("steps", "a", "b") in dialect.expression_references("steps.a['b'] == 1")
    assert ("steps", "a") in dialect.references("x {{ steps.a.b }}")
    with pytest.raises(TemplateInvalid, match="without braces"):
        dialect.check_expression("{{ a }} == {{ b }}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ nobody }}", "there is no name `nobody` (names: accumulator, ctx, steps)"),
        ("{{ steps.after.result }}", "there is no key `after` (keys: before)"),
        ("{{ ctx.n.x }}", "a number has no `x`"),
        ("{{ ctx.list[7] }}", "there is no index 7"),
        ("{{ ctx.nope == 1 }}", "no key `nope`"),
        ("{{ not ctx.nope }}", "no key `nope`"),
        ("{{ ctx.nope or 1 }}", "no key `nope`"),
        ("{{ [ctx.nope] }}", "no key `nope`"),
        ("{{ [] | first }}", "the list is empty"),
        ("{{ [] | max }}", "the list is empty"),
        ("{{ ''.__class__ }}", "a text has no `__class__`"),
        ("{{ ctx.__class__ }}", "no key `__class__`"),
        ("{{ ctx['__init__'] }}", "no key `__init__`"),
        ("{{ ctx.keys }}", "no key `keys`"),
        ("{{ ctx.rows | map(attribute='__class__') }}", "no key `__class__`"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ 'a' + 1 }}", "does not take a text and a number"),
        ("{{ '%s' % 1 }}", "does not take a text and a number"),
        ("{{ 'a' < 1 }}", "have no order"),
        ("{{ 'x' | int }}", "is not a whole number"),
        ("{{ 1 | upper }}", "takes a text"),
        ("{{ 'x' | fromjson }}", "is not JSON"),
        ("{{ 'x' | b64decode }}", "not base64"),
        ("{{ 1 ~ 1e308 * 10 }}", "not finite"),
        ("{{ {1: 2} }}", "keys of an object are texts"),
    ],
)
def test_data_that_do_not_allow_it_fail_with_the_reason(text, said):
    dialect.check(text)
    with pytest.raises(TemplateFailed) as caught:
        dialect.render(text, SCOPE)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{% if x %}", "no statements"),
        ("{# x #}", "no comments"),
        ("a {{ b", "`{{` without `}}`"),
        ("{{ }}", "is empty"),
        ("{{ a b }}", "unexpected `b`"),
        ("{{ 1 + }}", "`{{ 1 + }}`"),
        ("{{ 'a }}", "not closed"),
        ("{{ a } }}", "a `}` too many"),
        ("{{ 'a\\d' }}", "unknown escape"),
        ("{{ '\\ud800' }}", "not an expression"),
        ("{{ 1e999 }}", "not finite"),
        ("{{ a | nofilter }}", "there is no filter `nofilter`"),
        ("{{ a | center(10) }}", "there is no filter `center`"),
        ("{{ a is notest }}", "there is no test `notest`"),
        ("{{ a | map('nofilter') }}", "there is no filter `nofilter`"),
        ("{{ a | map(b) }}", "in quotes"),
        ("{{ a | upper(1, 2) }}", "too many"),
        ("{{ a | default(value=1) }}", "`default`"),
        ("{{ a | default(budget=1) }}", "`default`"),
        ("{{ a | join(*b) }}", "plain arguments"),
        ("{{ 'x' if a }}", "needs its `else`"),
        ("{{ a.b() }}", "only `range(...)` can be called"),
        ("{{ ctx.items() }}", "only `range(...)` can be called"),
        ("{{ lipsum() }}", "only `range(...)` can be called"),
        ("{{ range() }}", "one to three numbers"),
        ("{{ self }}{{ 1, 2 }}", "unexpected"),
    ],
)
def test_what_is_no_template_is_refused_before_any_data(text, said):
    with pytest.raises(TemplateInvalid) as caught:
        dialect.check(text)
    assert said in str(caught.value)


def test_a_refusal_names_line_and_column():
    with pytest.raises(TemplateInvalid) as caught:
        dialect.check("one\ntwo {{ a | nofilter }}")
    assert (caught.value.line, caught.value.column) == (2, 5)


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'a' * 900000000 }}",
        "{{ 900000000 * [1] }}",
        "{{ 9 ** 9 ** 9 ** 9 }}",
        "{{ 9 ** 9999999 }}",
        "{{ 2.0 ** 99999 }}",
        "{{ range(10 ** 9) | list }}",
        "{{ range(10000) | map('string') | map('replace', '', 'x') }}",
        "{{ ctx.big * 900 ~ ctx.big * 900 }}",
        "{{ (ctx.big * 900) | replace('x', ctx.big) }}",
        "{{ range(9999) | map('tojson') | join(ctx.big) }}",
        "{{ ([ctx.big * 100] * 10000) | sort }}",
        "{{ [ctx.big * 500, ctx.big * 500] }}",
        "{{ range(5000) | select('in', range(5000)) }}",
        "{{ ('x' * 900000) | list | map('in', 'a') }}",
        "{{ ('[' * 5000) | fromjson }}",
        "{{ ('9' * 5000) | int }}",
        "{{ ('9' * 5000) | fromjson }}",
        "{{ 'x' | round(10) }}",
        "{{ ctx.big * 900 }}{{ ctx.big * 900 }}",
        "{{ 1 | round(9999999) }}",
        "{{" + "(" * 10_000 + "1" + ")" * 10_000 + "}}",
        "{{" + "[" * 10_000,
        "{{" + "not " * 900 + "1}}",
        "{{" + "- " * 1900 + "1}}",
        "{{ a" + ".b" * 1900 + "}}",
        "{{ 1" + "+1" * 1900 + "}}",
        "{{ 1" + " if 1 else 1" * 300 + "}}",
        "{{ a" + "|abs" * 900 + "}}",
        "{{ " + "9" * 3990 + " ** 2 }}",
        "{{ 'a" + "\\\\" * 3000,
        "{{ 1 }}" * 5_000,
        "x" * 300_000 + "{{ 1 }}",
    ],
)
def test_hostile_templates_are_refused(text):
    with pytest.raises(TemplateError):
        dialect.render(text, SCOPE)


def test_hostile_data_are_refused():
    deep: Any = 1
    for _ in range(5_000):
        deep = [deep]
    scope: dict[str, Any] = {
        "deep": deep,
        "huge": 10**5_000,
        "many": list(range(2_000_000)),
        "nan": float("nan"),
    }
    scope["half"] = "\ud800"
    for text in ("{{ deep }}", "{{ deep == [deep] }}", "{{ huge }}", "{{ huge * huge }}",
                 "{{ many }}", "a{{ many }}", "{{ many | sort }}", "{{ nan }}", "a {{ huge }}",
                 "{{ half }}", "{{ '\"\\\\ud800\"' | fromjson }}", "{{ {half: 1} }}",
                 "{{ deep | tojson }}", "{{ huge | string }}", "{{ many | unique }}"):  # fmt: skip
        with pytest.raises(TemplateError):
            dialect.render(text, scope)
    with pytest.raises(TemplateFailed, match="nested deeper"):
        dialect.render(deep, {})


def test_a_long_but_honest_expression_is_fine():
    assert dialect.evaluate(" + ".join(["1"] * 50), {}) == 50
    assert dialect.evaluate(" ~ ".join(["'a'"] * 200), {}) == "a" * 200


WORDS = st.sampled_from(
    [
        "{{", "}}", "(", ")", "[", "]", "{", "}", "ctx", "steps", "accumulator", ".", "[0]",
        "['n']", "+", "-", "*", "**", "//", "%", "~", "|", "is", "not", "in", "and", "or", "if",
        "else", "default", "upper", "map", "select", "('upper')", "(attribute='a.b')", "sort",
        "join", "tojson", "fromjson", "range", "10", "99999", "1.5", "'x'", "true", "none",
        "defined", "odd", "list", "first", ":", ",", "<", "==", "items", "unique", "sum",
        "replace", "round", "int",
    ]
)  # fmt: skip
SCOPES: dict[str, Any] = {**SCOPE, "x": 1}


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="{}%#()[]'\"\\.|+-*~ ctxn19", max_size=40) | st.text(max_size=40))
def test_any_text_is_rendered_or_refused(text):
    for candidate in (text, "{{" + text + "}}"):
        try:
            json.dumps(dialect.render(candidate, SCOPES), allow_nan=False)
        except TemplateError as error:
            assert str(error)


@settings(deadline=None, max_examples=500)
@given(st.lists(WORDS, min_size=1, max_size=14))
def test_any_words_are_evaluated_or_refused(words):
    try:
        json.dumps(dialect.evaluate(" ".join(words), SCOPES), allow_nan=False)
    except TemplateError as error:
        assert str(error)
