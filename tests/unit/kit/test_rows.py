from tests.kit.rows import known_rows, render, unknown_rows

PAGE = """\
# Features
| id | feature |
|---|---|
| A1 | Jobs with a name |
| A10 | Job as a file |
- C7: CSV report
"""


def test_rows_are_read_from_tables_and_lists():
    assert known_rows(PAGE) == ["A1", "A10", "C7"]


def test_each_row_is_shown_with_its_tests_in_order():
    shown = render({"A10": ["tests/b.py::two", "tests/a.py::one"], "B4": ["tests/c.py::x"]}, ["A1"])
    assert shown.splitlines() == [
        "A1",
        "  no test yet",
        "A10",
        "  tests/a.py::one",
        "  tests/b.py::two",
        "B4",
        "  tests/c.py::x",
        "0 of 1 rows have tests",
    ]


def test_a_row_that_does_not_exist_is_named():
    assert unknown_rows({"A1": ["x"], "Z9": ["y"]}, ["A1"]) == ["Z9"]
