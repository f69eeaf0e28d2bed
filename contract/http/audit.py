"""The audit log: who did what, and when."""

from datetime import datetime

from pydantic import Field, JsonValue

from contract.http import Body
from contract.http.runs import RunBy


class AuditLine(Body):
    """One thing that somebody did. `detail` never holds a secret."""

    number: int
    at: datetime
    by: RunBy
    action: str = Field(description="what was done, such as `secret.set` or `hold.lift`")
    subject: str = Field(default="", description="what it was done to: `secret/api_key`")
    detail: dict[str, JsonValue] = Field(default_factory=dict)
