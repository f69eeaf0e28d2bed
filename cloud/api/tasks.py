"""Tasks: one target's part of a run, with every attempt."""

from fastapi import APIRouter

from cloud.api.access import CallerOf, ServicesOf
from cloud.storage.views import tasks as views
from contract.http.tasks import TaskDetail

router = APIRouter(tags=["tasks"])


@router.get("/tasks/{task}", operation_id="get_task")
async def get_task(task: str, services: ServicesOf, caller: CallerOf) -> TaskDetail:
    return await services.database.read(views.get_task, caller.org, task, services.clock())
