"""The job as people write it, in YAML or JSON, and its JSON Schema.

Everything DESIGN's job document says has its place here; `not_performed` names what this release
reads but does not perform, so that saving such a job is refused, with the place, instead of
silently doing less.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)

from contract import steps as step_library
from contract.durations import Duration
from contract.ids import Id
from contract.job_batches import MAX_BATCH_TARGETS, batch_problems
from contract.messages import OfferedRetry, OfferedStep
from contract.template_dialect import TemplateInvalid, check, check_expression
from contract.texts import Lines, Name, OneLine

MAX_STEPS: Final = 200
MIN_TIMEOUT: Final = timedelta(seconds=1)
MAX_TIMEOUT: Final = timedelta(days=30)
DEFAULT_TIMEOUT: Final = timedelta(seconds=60)
DEFAULT_CONCURRENCY: Final = 5
DEFAULT_EXPIRY: Final = timedelta(days=30)

StepId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


def _in_range(value: timedelta) -> timedelta:
    if not MIN_TIMEOUT <= value <= MAX_TIMEOUT:
        raise ValueError("a timeout is from 1s to 30 days")
    return value


def _publish_range(schema: dict[str, Any]) -> None:
    """The range as JSON Schema can say it: that of the number. Of the text words tell."""
    schema["description"] = "From 1s to 30 days: 90s, 15m, 1h30m, PT15M, or milliseconds."
    for variant in schema["anyOf"]:
        if variant.get("type") == "integer":
            variant["minimum"] = round(MIN_TIMEOUT.total_seconds() * 1000)
            variant["maximum"] = round(MAX_TIMEOUT.total_seconds() * 1000)


Timeout = Annotated[Duration, AfterValidator(_in_range), Field(json_schema_extra=_publish_range)]


def _expression(text: str) -> str:
    try:
        check_expression(text)
    except TemplateInvalid as error:
        raise ValueError(str(error)) from None
    return text


def _template(text: str) -> str:
    try:
        check(text)
    except TemplateInvalid as error:
        raise ValueError(str(error)) from None
    return text


Expression = Annotated[str, Field(max_length=4096), AfterValidator(_expression)]
TemplateText = Annotated[str, Field(max_length=65_536), AfterValidator(_template)]


class Section(BaseModel):
    # Most programs use few of these models, so each is built when it is first used.
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, defer_build=True)


class Item(Section):
    """One entry of an explicit payload: what to run, for whom, with which parameters."""

    target: Id | None = None
    steps: str | None = None
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    attempts: Annotated[int, Field(ge=1, le=1000)] | None = None


class Targets(Section):
    """Whom the job is about: every resource of a type that matches the query, or listed items."""

    resource: Literal["device", "gateway", "group", "user", "row"] = "device"
    query: JsonValue = Field(default=None, description="which ones; all of them if not given")
    table: TemplateText | None = None
    items: list[Item] | None = None
    continuous: bool = False

    @model_validator(mode="after")
    def _table_for_rows(self) -> "Targets":
        if self.resource == "row" and self.table is None:
            raise ValueError("targets of resource `row` need a `table`")
        if self.continuous and (self.resource != "device" or self.items is not None):
            raise ValueError("only a query for devices can be `continuous`")
        if self.items is not None and self.query is not None:
            raise ValueError("give `items` or a `query`, not both")
        return self


class Acknowledgment(Section):
    """Explicit mode: who closes the task once its steps are done."""

    topic: TemplateText | None = None
    match: Expression | None = None


class ExplicitAcknowledge(Section):
    explicit: Acknowledgment


class Iteration(Section):
    """How the tasks of a run take their turns."""

    mode: Literal["parallel", "serial"] = "parallel"
    concurrency: Annotated[int, Field(ge=1, le=1_000_000)] = DEFAULT_CONCURRENCY
    per_gateway: Annotated[int, Field(ge=1, le=100_000)] | None = None
    per_bus: Annotated[int, Field(ge=1, le=100_000)] | None = None
    per_site: Annotated[int, Field(ge=1, le=100_000)] | None = None
    offline: Literal["wait", "skip", "fail"] = "wait"
    offline_after: Duration = timedelta(minutes=5)
    batch: Annotated[int, Field(ge=1, le=MAX_BATCH_TARGETS)] | Literal["all"] = Field(
        default=1, description="how many targets one task is about; `all` in one, if they fit"
    )
    timeout: Timeout = DEFAULT_TIMEOUT
    delay: Duration = timedelta()
    acknowledge: Literal["steps"] | ExplicitAcknowledge = "steps"
    keep_response: bool = True
    start_by: Duration = timedelta(minutes=15)


class Retry(Section):
    """When a failed or timed-out attempt is followed by another. `attempts` counts all tries.

    With `when: online` a device that is down gets its next attempt only once it is up again.
    """

    when: Literal["due", "online"] = "due"
    on: list[Literal["timeout", "failure"]] = Field(default=["timeout", "failure"])
    attempts: Annotated[int, Field(ge=1, le=1000)] = 3
    delay: Duration = timedelta()
    backoff: Annotated[float, Field(ge=1, le=100)] = 1.0
    max_delay: Duration | None = None


class StepRetry(Section):
    """How a step is tried again within its attempt."""

    attempts: Annotated[int, Field(ge=1, le=1000)] = 1
    delay: Duration = timedelta()
    backoff: Annotated[float, Field(ge=1, le=100)] = 1.0


class Step(Section):
    """One action: `uses: namespace.verb`."""

    id: StepId | None = None
    uses: Annotated[str, StringConstraints(pattern=r"^[a-z_]+\.[a-z_]+$")]
    with_: dict[str, JsonValue] = Field(default_factory=dict, alias="with")
    when: Expression | None = None
    expect: Expression | None = None
    timeout: Timeout | None = None
    retry: StepRetry = StepRetry()
    always: bool = False
    on_failure: bool = False
    key: TemplateText | None = Field(
        default=None, description="names what the step asks of the cloud, so that it happens once"
    )
    name: str | None = Field(default=None, max_length=256)
    help: str | None = Field(default=None, max_length=4096)


class Wave(Section):
    """A part of the targets that may start together, by count or percentage."""

    name: str | None = None
    count: Annotated[int, Field(ge=1)] | None = None
    percent: Annotated[float, Field(gt=0, le=100)] | None = None
    wait: Duration | None = None
    gate: dict[str, JsonValue] | None = None
    release: Literal["manual"] | None = None


class AbortRule(Section):
    on: Literal["failed", "timed_out", "any"] = "any"
    above: Annotated[str, StringConstraints(pattern=r"^\d{1,3}(\.\d+)?%$")]
    after: Annotated[int, Field(ge=1)] = 1
    then: Literal["cancel", "pause", "slow_down"] = "pause"


class Rollout(Section):
    waves: list[Wave] = Field(default_factory=list, max_length=100)
    rate: str | dict[str, JsonValue] | None = None
    abort: list[AbortRule] = Field(default_factory=list, max_length=20)


class Schedule(Section):
    """When the job runs by itself. Without one it runs only when asked."""

    now: bool = False
    calendars: list[dict[str, JsonValue]] = Field(default_factory=list)
    intervals: list[JsonValue] = Field(default_factory=list)
    window: dict[str, JsonValue] | None = None
    starts_at: datetime | None = None
    expires_at: datetime | None = None
    expires_after: Duration | None = None
    retry_every: Duration | None = None
    spread: Duration | None = None
    catch_up: bool = False
    overlap: Literal["skip", "wait", "replace"] = "skip"


class Trigger(Section):
    """Another job, started when something happens. Its `context` goes over that job's own.

    Templates in it see `ctx` and `run`, those of the run that the trigger stands on.
    """

    run: Id
    context: dict[str, JsonValue] = Field(default_factory=dict)


RunEnd = Literal["succeeded", "partially_succeeded", "failed", "cancelled", "replaced"]


class CompletionTrigger(Trigger):
    """Fires when a run has ended; `when` names the ends, if not all but cancelled and replaced."""

    when: list[RunEnd] | None = Field(default=None, min_length=1)


class JobDocument(Section):
    """A job: targets, steps, iteration policy, schedule and sinks."""

    name: Name
    id: Id | None = Field(default=None, description="made from the name if not given")
    description: Annotated[str, Lines] = Field(default="", max_length=4096)
    type: Annotated[str, OneLine] = Field(default="", max_length=64)
    targets: Targets = Targets()
    context: dict[str, JsonValue] = Field(default_factory=dict)
    context_schema: dict[str, JsonValue] | None = None
    iteration: Iteration = Iteration()
    priority: Literal["low", "normal", "high"] = "normal"
    retry: Retry = Retry()
    rollout: Rollout = Rollout()
    steps: list[Step] | dict[Id, list[Step]]
    accumulator: TemplateText | None = None
    schedule: Schedule | None = None
    on_timeout: list[Trigger] = Field(default_factory=list, max_length=20)
    on_complete: list[CompletionTrigger] = Field(default_factory=list, max_length=20)
    replaces: list[Id] = Field(default_factory=list)
    sinks: list[dict[str, JsonValue]] = Field(default_factory=list)


class Place(tuple[str | int, ...]):
    """Keys and indexes from the document's top to the value a problem is about."""

    def __str__(self) -> str:
        text = ""
        for part in self:
            text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
        return text


def step_lists(document: JobDocument) -> Mapping[str, Sequence[Step]]:
    """The job's step lists by name; the only one of a plain list is called `steps`."""
    if isinstance(document.steps, list):
        return {"steps": document.steps}
    return document.steps


def problems(document: JobDocument) -> list[tuple[Place, str]]:
    """What the shape alone cannot say: unknown verbs, wrong parameters, doubled ids, templates."""
    found: list[tuple[Place, str]] = []
    for name, steps in step_lists(document).items():
        at: tuple[str | int, ...] = (
            ("steps",) if isinstance(document.steps, list) else ("steps", name)
        )
        if not 1 <= len(steps) <= MAX_STEPS:
            found.append((Place(at), f"a job has 1 to {MAX_STEPS} steps, not {len(steps)}"))
        seen: set[str] = set()
        for index, step in enumerate(steps):
            found.extend(_step_problems(Place((*at, index)), step))
            if step.id is not None and step.id in seen:
                found.append((Place((*at, index, "id")), f"`{step.id}` names two steps"))
            seen.add(step.id or "")
    for place, text in _texts(("targets", "query"), document.targets.query):
        found.extend(_template_problems(place, text))
    found.extend(_trigger_problems(document))
    found.extend(_item_problems(document))
    given = document.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    found.extend((Place(keys), text) for keys, text in batch_problems(given))
    return found


def _item_problems(document: JobDocument) -> Iterator[tuple[Place, str]]:
    lists = step_lists(document)
    if not lists:
        yield Place(("steps",)), "a job has at least one step list"
    if document.targets.items is None:
        if len(lists) > 1:
            yield Place(("steps",)), "with several step lists, `targets.items` say which one to run"
        return
    for index, item in enumerate(document.targets.items):
        if item.steps is None and len(lists) > 1:
            yield Place(("targets", "items", index)), "say in `steps` which step list to run"
        elif item.steps is not None and item.steps not in lists:
            known = ", ".join(lists)
            at = Place(("targets", "items", index, "steps"))
            yield at, f"`{item.steps}` is no step list of the job; known are {known}"


def _trigger_problems(document: JobDocument) -> Iterator[tuple[Place, str]]:
    for kind, triggers in (
        ("on_timeout", document.on_timeout),
        ("on_complete", document.on_complete),
    ):
        for index, trigger in enumerate(triggers):
            for place, text in _texts((kind, index, "context"), dict(trigger.context)):
                try:
                    others = sorted(check(text) - {"ctx", "run"})
                except TemplateInvalid as error:
                    yield place, str(error)
                    continue
                if others:
                    yield place, f"a trigger can use ctx and run, not {', '.join(others)}"
            if "trigger" in trigger.context:
                place = Place((kind, index, "context", "trigger"))
                yield place, "`trigger` is what we tell the other job; choose another name"


def _step_problems(at: Place, step: Step) -> Iterator[tuple[Place, str]]:
    if step.uses not in step_library.VERBS:
        known = ", ".join(sorted(step_library.VERBS))
        yield Place((*at, "uses")), f"`{step.uses}` is no step; known are {known}"
        return
    for keys, message in step_library.problems_of(step.uses, dict(step.with_)):
        yield Place((*at, "with", *keys)), message
    for place, text in _texts((*at, "with"), step.with_):
        yield from _template_problems(place, text)


def _texts(at: tuple[str | int, ...], value: Any) -> Iterator[tuple[Place, str]]:
    if isinstance(value, str):
        yield Place(at), value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts((*at, key), inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts((*at, index), inner)


def _template_problems(place: Place, text: str) -> Iterator[tuple[Place, str]]:
    try:
        check(text)
    except TemplateInvalid as error:
        yield place, str(error)


def not_performed(document: JobDocument) -> list[Place]:
    """Places of the document that this release reads but does not perform."""
    given = document.model_dump(by_alias=True, exclude_defaults=True, exclude_none=True)
    return [Place(key) for key in _NOT_PERFORMED if _at(given, key) not in (None, [], {}, False)]


_NOT_PERFORMED: Final[tuple[tuple[str, ...], ...]] = (
    ("rollout", "waves"),
    ("rollout", "rate"),
    ("rollout", "abort"),
    ("schedule",),
    ("sinks",),
)


def _at(document: Mapping[str, Any], key: tuple[str, ...]) -> Any:
    value: Any = document
    for part in key:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def expand(steps: Sequence[Step]) -> list[OfferedStep]:
    """The steps as a gateway performs them: macros replaced, ids given, durations in ms."""
    offered: list[OfferedStep] = []
    taken = {step.id for step in steps if step.id}
    for step in steps:
        for plain in _macro(step) if step_library.VERBS[step.uses].macro else [step]:
            step_id = plain.id or _free(plain.uses.partition(".")[2], taken)
            taken.add(step_id)
            offered.append(_offered(plain, step_id))
    return offered


def _offered(step: Step, step_id: str) -> OfferedStep:
    retry = OfferedRetry(
        attempts=step.retry.attempts,
        delay=_millis(step.retry.delay),
        backoff=step.retry.backoff,
    )
    fields = step.model_dump(by_alias=True, include={"uses", "with_", "when", "expect"})
    timeout = None if step.timeout is None else _millis(step.timeout)
    return OfferedStep(
        id=step_id,
        timeout=timeout,
        retry=retry,
        always=step.always,
        on_failure=step.on_failure,
        key=step.key,
        **fields,
    )


def _macro(step: Step) -> list[Step]:
    """A macro as its plain steps; `when`, `retry` and flags are handed to each of them."""
    parts = _MACROS[step.uses](step.with_)
    named = [uses.partition(".")[2] for uses, _ in parts]
    return [
        step.model_copy(
            update={
                "id": f"{step.id}_{_numbered(named, place)}" if step.id else None,
                "uses": uses,
                "with_": parameters,
                "expect": None,
                **_cleaning_up(step, uses),
            }
        )
        for place, (uses, parameters) in enumerate(parts)
    ]


def _cleaning_up(step: Step, uses: str) -> dict[str, Any]:
    """A rollback is due after failures and cancels too, and takes as long as the way there."""
    if uses != "firmware.rollback_together":
        return {}
    return {"always": True, "when": None, "timeout": step.timeout or ROLLBACK_WITHIN}


def _numbered(words: list[str], place: int) -> str:
    """The word at a place, with a number from its second time on: upload, upload_2."""
    before = words[:place].count(words[place])
    return f"{words[place]}_{before + 1}" if before else words[place]


ROLLBACK_WITHIN: Final = timedelta(minutes=15)
Parts = list[tuple[str, dict[str, JsonValue]]]


def _firmware_update(asked: Mapping[str, JsonValue]) -> Parts:
    listed = asked.get("images")
    images = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    images = images or [dict(asked)]
    return [
        *(
            (
                "firmware.upload",
                {
                    "artifact": each["artifact"],
                    **_given(each, "version"),
                    **_given(each, "image"),
                },
            )
            for each in images
        ),
        ("firmware.test", {}),
        ("device.reset", {}),
        ("device.wait", {"until": "online", "timeout": asked.get("wait", "2m")}),
        *(
            ("firmware.verify", {**_given(each, "version"), **_given(each, "image")})
            for each in images
        ),
        ("firmware.confirm", {}),
    ]


def _update_together(asked: Mapping[str, JsonValue]) -> Parts:
    shared = (_given(asked, "at_once"), _given(asked, "wait"))
    with_ = {"members": asked["members"], **shared[0], **shared[1]}
    parts: Parts = [
        ("firmware.stage_together", with_),
        ("firmware.switch_together", with_),
        ("firmware.confirm_together", with_),
    ]
    if asked.get("on_failure", "rollback") == "rollback":
        parts.append(("firmware.rollback_together", with_))
    return parts


def _certificate_rotate(asked: Mapping[str, JsonValue]) -> Parts:
    slot = _given(asked, "slot")
    return [
        ("certificate.request", {**_given(asked, "subject"), **slot}),
        ("certificate.sign", _given(asked, "days")),
        ("certificate.install", slot),
        ("certificate.verify", slot),
        ("certificate.commit", slot),
    ]


_MACROS: Final[Mapping[str, Callable[[Mapping[str, JsonValue]], Parts]]] = {
    "firmware.update": _firmware_update,
    "firmware.update_together": _update_together,
    "certificate.rotate": _certificate_rotate,
}


def _given(asked: Mapping[str, JsonValue], name: str) -> dict[str, JsonValue]:
    return {} if asked.get(name) is None else {name: asked[name]}


def _free(word: str, taken: set[str]) -> str:
    if word not in taken:
        return word
    return next(name for n in range(2, MAX_STEPS * 8) if (name := f"{word}_{n}") not in taken)


def _millis(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a job document."""
    schema = JobDocument.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Roundsman job"
    return schema
