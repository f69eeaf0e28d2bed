"""Tasks: one target's part of a run, with every attempt."""

from contract.http.tasks import TaskDetail
from roundsman._sync.transport import Transport


class Tasks:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, task: str) -> TaskDetail:
        return self._transport.get(f"/tasks/{task}", TaskDetail)
