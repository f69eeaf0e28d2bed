"""Adding to what is known of a run: lines of its log, also after its end."""

from cloud.coordinator.access import Caller
from cloud.errors import Invalid
from cloud.storage import reports
from cloud.storage.database import Session
from cloud.storage.json_text import clean
from cloud.storage.views import runs as views
from contract.http.history import AddLogLine


def add_log_line(session: Session, caller: Caller, run: str, line: AddLogLine, now: int) -> None:
    """Add a line to a run's log; an ERROR marks the run. Raises NotFound, Gone and Invalid."""
    row = views.find(session, caller.org, run)
    ordinal = None
    if line.task is not None:
        of_run, _, number = line.task.rpartition("-")
        if of_run != run or not number.isdecimal() or int(number[:10]) >= row.total:
            raise Invalid("invalid", f"`{line.task[:80]}` is no task of run {run}")
        ordinal = int(number)
    reports.log(
        session,
        caller.org,
        run,
        now,
        clean(line.text),
        level=line.level,
        ordinal=ordinal,
        data={**line.data, "by": caller.name},
        stream="client",
    )
    if line.level == "ERROR":
        reports.mark_errors(session, [run])
