"""What a job's targets mean when a run starts: its query and table, rendered and checked.

Groups that are saved queries are put in place of their names, so that a run keeps the targets it
started with.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from cloud.errors import Invalid
from cloud.storage import target_documents
from cloud.storage.database import Session
from cloud.storage.schema_targets import GroupRow
from cloud.storage.targets import SHAPES, Shape
from contract import query as queries
from contract.http.problems import ProblemItem
from contract.job_document import Targets
from contract.query_fields import check_fields, expand_groups
from contract.query_text import query_of
from contract.template_dialect import TemplateError, render

TABLE: Final = "targets.table"
QUERY: Final = "targets.query"


@dataclass(frozen=True)
class Resolved:
    """A query over one kind of target, ready to be compiled. `table` is that of rows."""

    shape: Shape
    query: queries.Query
    table: str = ""


def resolve(
    session: Session,
    org: str,
    targets: Targets,
    scope: Mapping[str, JsonValue],
    query: JsonValue = None,
) -> Resolved:
    """Render and check the targets of a run; `query` overrides the job's.

    Raises Invalid("document_invalid") for a query, field, group or table that cannot be used.
    """
    shape = SHAPES[targets.resource]
    asked = targets.query if query is None else query
    columns, table = None, ""
    if targets.resource == "row":
        table = _table(targets.table or "", scope)
        columns = target_documents.columns_of(session, org, table)
        if columns is None:
            raise invalid(TABLE, f"there is no data table `{table[:80]}`")
    try:
        read = queries.render_query({} if asked is None else query_of(asked), scope)
        check_fields(read, targets.resource, columns)
        found = expanded(session, org, read, targets.resource)
    except queries.QueryInvalid as error:
        raise invalid(f"{QUERY}.{error.path}" if error.path else QUERY, error.reason) from error
    except TemplateError as error:
        raise invalid(QUERY, str(error)) from error
    return Resolved(shape, found, table)


def _table(text: str, scope: Mapping[str, JsonValue]) -> str:
    try:
        found = render(text, scope)
    except TemplateError as error:
        raise invalid(TABLE, str(error)) from error
    if not isinstance(found, str) or not found:
        raise invalid(TABLE, "the name of a data table is a text")
    return found


def expanded(session: Session, org: str, query: queries.Query, resource: str) -> queries.Query:
    """The query with saved groups in place of their names. Raises QueryInvalid."""

    def saved(group: str) -> queries.Query | None:
        row = session.get(GroupRow, (org, group))
        if row is None:
            raise queries.QueryInvalid("group", f"there is no group `{group[:80]}`")
        if row.resource != resource:
            text = f"`{group}` is a group of {row.resource}s, not of {resource}s"
            raise queries.QueryInvalid("group", text)
        return None if row.query is None else queries.parse(json.loads(row.query))

    return expand_groups(query, saved)


def invalid(key: str, message: str) -> Invalid:
    return Invalid("document_invalid", message, [ProblemItem(key=key, message=message)])


def standing_query(session: Session, org: str, query: JsonValue, resource: str) -> queries.Query:
    """A query that is kept and has no context, as that of a group. Raises Invalid."""
    try:
        asked = query_of(query)
        if queries.check_query(asked):
            raise queries.QueryInvalid("", "a query that is kept holds no templates")
        read = queries.parse(asked)
        check_fields(read, resource)
        expanded(session, org, read, resource)
    except queries.QueryInvalid as error:
        key = f"query.{error.path}" if error.path else "query"
        items = [ProblemItem(key=key, message=error.reason)]
        raise Invalid("invalid", f"{key}: {error.reason}", items) from error
    return read
