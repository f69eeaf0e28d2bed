"""The Range header as downloads use it, and as nobody should."""

import pytest

from cloud.api.ranges import Part, RangeInvalid, parse_range


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("bytes=0-", Part(0, 100)),
        ("bytes=10-19", Part(10, 10)),
        ("bytes=90-1000", Part(90, 10)),
        ("bytes=-5", Part(95, 5)),
        ("bytes=-1000", Part(0, 100)),
        ("bytes=99-99", Part(99, 1)),
        ("bytes=-", None),
        ("bytes=20-10", None),
        ("bytes=0-1,5-6", None),
        ("items=0-1", None),
        ("bytes=a-b", None),
    ],
)
def test_a_range_becomes_one_part_or_the_whole_file(header, part):
    assert parse_range(header, 100) == part


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=5000-6000", "bytes=-0"])
def test_a_range_outside_the_file_is_refused(header):
    with pytest.raises(RangeInvalid):
        parse_range(header, 100)


def test_an_empty_file_has_no_parts():
    assert parse_range(None, 0) is None
    with pytest.raises(RangeInvalid):
        parse_range("bytes=0-", 0)
