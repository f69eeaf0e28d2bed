"""Jobs: saving and reading definitions. The document itself is `contract.job_document`."""

from datetime import datetime

from pydantic import Field, JsonValue

from contract.http import Body
from contract.http.runs import Run
from contract.ids import Id
from contract.texts import Name


class DuplicateJob(Body):
    """What the copy is called; `(copy)` is added to the name if nothing is said."""

    name: Name | None = None
    id: Id | None = Field(default=None, description="made from the name if not given")


class Job(Body):
    """A job, with its current, else latest run. `revision` is also its ETag."""

    id: str
    name: str
    description: str = ""
    type: str = ""
    resource: str = "device"
    system: bool = Field(default=False, description="one that the system needs; it is protected")
    revision: int = 1
    created_at: datetime
    updated_at: datetime
    created_by: str = ""
    last_run_at: datetime | None = None
    paused_at: datetime | None = None
    paused_by: str = ""
    run: Run | None = None
    document: dict[str, JsonValue] = Field(default_factory=dict)
