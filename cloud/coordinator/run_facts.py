"""What steps read of their run beside its frozen body: when it started, and how far it is."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from cloud.storage import counts
from cloud.storage.database import Session
from cloud.storage.views.runs import counts_of


def of_offers(
    session: Session, rows: Sequence[Any], texts: Mapping[str, str]
) -> dict[str, dict[str, JsonValue]]:
    """The facts of each run among these offers whose steps ask for any, as they are now.

    `texts` are the bodies by run and by hash. A word that stands there for something else costs
    one sum over the run's few count rows, and nothing more.
    """
    of_run: dict[str, dict[str, JsonValue]] = {}
    counted: set[str] = set()
    for row in rows:
        text = texts.get(row.body_hash) or texts.get(row.run, "")
        if "started_at" in text:
            of_run.setdefault(row.run, {})["started_at"] = row.run_started_at
        if "counts" in text:
            counted.add(row.run)
    for run, totals in counts.totals(session, sorted(counted)).items():
        of_run.setdefault(run, {})["counts"] = counts_of(totals, totals.total).model_dump()
    return of_run
