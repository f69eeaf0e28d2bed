"""The audit log: who did what, and when."""

from collections.abc import Iterator

from contract.http.audit import AuditLine
from roundsman._sync.transport import Transport


class Audit:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, subject: str | None = None, limit: int | None = None) -> Iterator[AuditLine]:
        """All lines, the newest first, or those about one subject; `limit` is a page's size."""
        query = {"subject": subject, "limit": limit}
        return self._transport.items("/audit", AuditLine, query)
