"""sql.query: one statement to a database that the gateway's operator has given a name."""

from typing import Final

from contract.steps import AfterRestart, QueryParameters
from gateway.actions.base import Action, Call, Reach, StepDone, StepOutcome, StepUnanswered, parsed
from gateway.domain.seconds import seconds_of
from gateway.domain.sql_values import Statement
from gateway.errors import DeviceUnreachable


class SqlQuery:
    """After a restart a read-only database is asked again; what may have written is not."""

    after_restart = AfterRestart.ASK

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        asked = parsed(QueryParameters, call)
        read_only = reach.databases.is_read_only(asked.database)
        if call.resumed and not read_only:
            return StepUnanswered("interrupted", "the statement may have been performed")
        statement = Statement(
            text=asked.statement,
            parameters=tuple(asked.parameters) if isinstance(asked.parameters, list) else (),
            max_rows=asked.max_rows if isinstance(asked.max_rows, int) else 1,
            timeout_s=min(seconds_of(asked.timeout), call.timeout_s),
        )
        try:
            return StepDone(await reach.databases.query(asked.database, statement))
        except DeviceUnreachable as error:
            return StepUnanswered("sql_failed", str(error))


ACTIONS: Final[dict[str, Action]] = {"sql.query": SqlQuery()}
