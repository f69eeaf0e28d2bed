"""A secret reaches its step, and nothing that leaves the step shows it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from contract.messages import JobBody
from gateway.domain.attempt import advance
from gateway.domain.attempt_record import snapshot_of, to_record
from gateway.domain.attempt_state import accept
from gateway.domain.facts import Begin, Denied, Done, Perform, Say, Started
from gateway.domain.masking import mask
from gateway.journal import tasks
from gateway.journal.database import open_database
from tests.kit.attempts import AT, a_body, a_step, an_offer

SECRET = 'hunter2 "&/ué'
pytestmark = pytest.mark.row("A13")


def body() -> JobBody:
    step = a_step("call", uses="flow.log", with_={"text": "key {{ secrets.api_key }}"})
    return a_body(step, a_step("after", uses="flow.log", with_={"text": "x"}),
                  secrets={"api_key": SECRET})  # fmt: skip


@given(before=st.text(max_size=5), after=st.text(max_size=5))
def test_no_form_of_a_secret_is_left(before: str, after: str) -> None:
    inner: JsonValue = {"echo": f"{before}{SECRET}{after}", SECRET: [SECRET, 1, None]}
    found = json.dumps(mask(inner, {"api_key": SECRET}), ensure_ascii=False)
    assert "hunter2" not in found
    assert "***" in found


def test_results_failures_and_lines_are_masked() -> None:
    attempt, _ = advance(accept(an_offer(), body(), 1, AT), Started(1), AT)
    attempt, effects = advance(attempt, Begin(), AT)
    (perform,) = [effect for effect in effects if isinstance(effect, Perform)]
    assert perform.parameters == {"text": f"key {SECRET}"}
    done, said = advance(attempt, Done({"echo": f"<{SECRET}>"}, {}, f"note {SECRET}"), AT)
    failed, more = advance(attempt, Denied("step_invalid", f"bad key {SECRET}", SECRET), AT)
    shown = [snapshot_of(done).model_dump_json(), snapshot_of(failed).model_dump_json()]
    shown += [to_record(done), to_record(failed)]
    shown += [str(effect) for effect in [*said, *more] if isinstance(effect, Say)]
    assert not [text for text in shown if "hunter2" in text]
    assert "<***>" in shown[0]
    assert "bad key ***" in shown[1]


def test_the_journal_keeps_secrets_sealed_and_finds_them_again(tmp_path: Path) -> None:
    journal = open_database(tmp_path, inline=True)
    offer = an_offer()
    journal.run_now(tasks.take_offers, [body()], [offer], 1, AT)
    loaded = journal.run_now(tasks.load, offer.task, 1, AT)
    assert loaded is not None
    assert loaded.body.secrets == {"api_key": SECRET}
    journal.close()
    raw = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"hunter2" not in raw
    assert (tmp_path / "journal.key").stat().st_mode & 0o777 == 0o600
    again = open_database(tmp_path, inline=True)
    loaded = again.run_now(tasks.load, offer.task, 1, AT)
    assert loaded is not None
    assert loaded.body.secrets == {"api_key": SECRET}
    again.close()
