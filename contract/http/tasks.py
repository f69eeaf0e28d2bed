"""Tasks of a run, their attempts and the steps of those."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from contract.http import Body
from contract.http.runs import RunLogLine, Waiting
from contract.lifecycle import StepStatus, TaskStatus


class TaskFailure(Body):
    """Why it failed: the code, its sentence, what the case was, and what a person can do."""

    code: str
    sentence: str = ""
    text: str = ""
    help: str = ""
    step: str | None = None


class Step(Body):
    id: str
    uses: str
    name: str = ""
    help: str = ""
    status: StepStatus
    progress: float = 0
    tries: int = 0
    started_at: datetime | None = None
    skipped_at: datetime | None = None
    completed_at: datetime | None = None
    failure: TaskFailure | None = None
    result: JsonValue = None
    truncated: bool = False
    note: str = ""
    input: JsonValue = Field(
        default=None,
        description="what it was given, rendered, secrets masked; null before it began",
    )
    input_truncated: bool = False


class Attempt(Body):
    """One try. `late_outcome` is what its gateway reported after it had ended."""

    attempt: int
    status: TaskStatus
    begun: bool = False
    gateway: str
    revision: int = 0
    offered_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    failure: TaskFailure | None = None
    result: JsonValue = None
    steps: list[Step] = Field(default_factory=list)
    late_outcome: dict[str, JsonValue] | None = None


class Task(Body):
    """A row of a run's task table."""

    id: str
    run: str
    job: str
    ordinal: int
    target: str = Field(description="empty for a task about several")
    targets: int = Field(default=1, description="how many the task is about")
    device: str | None = None
    gateway: str | None = None
    status: TaskStatus
    attempt: int = 0
    tries: int = 0
    attempts_allowed: int = 1
    progress: Annotated[float, Field(ge=0, le=100)] = 0
    current_step: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    last_triggered_at: datetime | None = None
    due_at: datetime | None = None
    failure: TaskFailure | None = None
    waiting_for: Waiting | None = None

    @property
    def about(self) -> str:
        """Its target, or how many it has."""
        if self.target:
            return self.target
        return f"{self.targets} targets" if self.targets > 1 else "1 target"


class AcknowledgeTask(Body):
    """How a task ends, as somebody outside says it."""

    success: bool = True
    result: JsonValue = None
    accumulator: JsonValue = None
    text: Annotated[str, Field(max_length=4096)] = ""


class Acknowledged(Body):
    """`kept`: the steps are not done yet; it counts once they are."""

    task: str
    verdict: Literal["closed", "kept"]


class AcknowledgmentToken(Body):
    """With it a third party may acknowledge one attempt of one task, and do nothing else."""

    token: str
    attempt: int
    url: str


class StepInput(Body):
    id: str
    uses: str
    parameters: dict[str, JsonValue] = Field(default_factory=dict)


class TaskInput(Body):
    """What a task was given: its own parameters, and its steps' as written; secrets are masked.

    `targets` are the ids of a task about several, in order.
    """

    targets: list[str] = Field(default_factory=list)
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    steps: list[StepInput] = Field(default_factory=list)


class TaskDetail(Task):
    """A task with its attempts, the newest first, and the end of its log, the oldest line first."""

    input: TaskInput = TaskInput()
    attempts: list[Attempt] = Field(default_factory=list)
    log: list[RunLogLine] = Field(default_factory=list)
