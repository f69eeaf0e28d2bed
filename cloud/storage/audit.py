"""The audit log, append-only: a line is written in the transaction of what it tells."""

from collections.abc import Mapping

from pydantic import JsonValue

from cloud.storage.database import Session
from cloud.storage.dialect import change_many
from cloud.storage.json_text import clean, to_json


def add(
    session: Session,
    org: str,
    now: int,
    by: str,
    by_name: str,
    action: str,
    subject: str,
    detail: Mapping[str, JsonValue],
) -> None:
    line = {
        "org": org,
        "at": now,
        "by": by,
        "by_name": clean(by_name),
        "action": action,
        "subject": clean(subject),
        "detail": to_json({name: value for name, value in detail.items() if value}),
    }
    change_many(
        session,
        "INSERT INTO audit (org, at, by, by_name, action, subject, detail) "
        "VALUES (:org, :at, :by, :by_name, :action, :subject, :detail)",
        [line],
    )
