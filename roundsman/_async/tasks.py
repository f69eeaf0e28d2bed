"""Tasks: one target's part of a run, with every attempt."""

from pydantic import JsonValue

from contract.http.tasks import Acknowledged, AcknowledgeTask, AcknowledgmentToken, TaskDetail
from roundsman._async.transport import Transport, parse


class Tasks:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self, task: str) -> TaskDetail:
        return await self._transport.get(f"/tasks/{task}", TaskDetail)

    async def acknowledge(
        self,
        task: str,
        *,
        success: bool = True,
        result: JsonValue = None,
        accumulator: JsonValue = None,
        text: str = "",
    ) -> Acknowledged:
        """Close a task that is acknowledged explicitly; the first word counts.

        Raises Conflict for one that has ended, was acknowledged before, or ends by its steps.
        """
        word = AcknowledgeTask(success=success, result=result, accumulator=accumulator, text=text)
        answer = await self._transport.send("POST", f"/tasks/{task}/acknowledge", body=word)
        return parse(answer, Acknowledged)

    async def acknowledgment_token(self, task: str) -> AcknowledgmentToken:
        """A token with which a third party may acknowledge the task's open attempt."""
        answer = await self._transport.send("POST", f"/tasks/{task}/acknowledgment-token")
        return parse(answer, AcknowledgmentToken)
