"""The step library: every verb with the schema of its parameters."""

from fastapi import APIRouter

from contract.http import Page
from contract.http.steps import StepVerb, library

router = APIRouter(tags=["steps"])


@router.get("/steps", operation_id="list_steps")
async def list_steps() -> Page[StepVerb]:
    """What steps may use, what stands in their `with`, and what a restart in them means."""
    return Page(items=library(), next_cursor=None)
