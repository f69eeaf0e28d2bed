"""Lines of the gateway's log: one fact each, for people or for programs."""

import io
import json
import logging

import pytest

from gateway.logs import Log, LogFormat, configure_logs

log = Log()


@pytest.fixture(autouse=True)
def kept():
    root = logging.getLogger()
    before = root.handlers, root.level
    yield
    root.handlers, root.level = before
    logging.getLogger("gateway").setLevel(logging.NOTSET)


def lines(format: LogFormat, *facts) -> list[str]:
    out = io.StringIO()
    configure_logs("info", format, out)
    for fact in facts:
        fact()
    return out.getvalue().splitlines()


def test_a_line_of_json_holds_the_fact_and_its_fields():
    (line,) = lines("json", lambda: log.info("task accepted", task="r-1", left=set()))
    told = json.loads(line)
    assert told.pop("timestamp").endswith("Z")
    assert told == {"task": "r-1", "left": "set()", "event": "task accepted", "level": "info"}


def test_a_line_of_text_reads_from_left_to_right():
    (line,) = lines("text", lambda: log.warning("100 % full", device="pump-1"))
    assert line.split()[1:] == ["warning", "100", "%", "full", "device=pump-1"]


def test_what_is_below_the_level_is_not_said():
    assert lines("json", lambda: log.debug("noise")) == []


def test_libraries_are_heard_from_warnings_on():
    library = logging.getLogger("somebody.else")
    (line,) = lines("json", lambda: library.info("hm"), lambda: library.warning("%s!", "hey"))
    assert json.loads(line)["logger"] == "somebody.else"
    assert json.loads(line)["event"] == "hey!"


@pytest.mark.parametrize("format", ["json", "text"])
def test_an_exception_brings_its_trace(format):
    def fail() -> None:
        try:
            raise LookupError("a mistake of ours")
        except LookupError:
            log.exception("worker failed", lane="pump-1")

    assert "LookupError: a mistake of ours" in "\n".join(lines(format, fail))
