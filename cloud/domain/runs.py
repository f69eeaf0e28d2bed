"""What a run freezes of its job: the body its tasks share, its artifacts, its limits."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Final, NamedTuple

from pydantic import JsonValue

from cloud.domain.tasks import RetryPolicy
from contract import template_dialect
from contract.http.runs import PostponeRun, StartRun
from contract.ids import THIS_GATEWAY
from contract.job_document import JobDocument, Retry, expand, step_lists
from contract.messages import ArtifactRef, JobBody, OfferedAcknowledge, OfferedStep
from contract.steps import verbs_in

PRIORITIES: Final = {"low": 0, "normal": 1, "high": 2}
PRIORITY_NAMES: Final = {number: name for name, number in PRIORITIES.items()}
# What is known when a run starts; everything else a template may name comes later.
# Ten years.
FARTHEST_MS: Final = 315_360_000_000
START_NAMES: Final = frozenset({"ctx", "run"})


@dataclass(frozen=True)
class Wanted:
    """An artifact that a step needs: where it stands, as rendered.

    `is_image`: it is for a device, and has to be an image that its bootloader can start.
    """

    key: str
    name: str
    is_image: bool = True


class ArtifactText(NamedTuple):
    """A place that names an artifact, what stands there, and whether it is to be an image."""

    key: str
    text: str
    is_image: bool


class ArtifactNameInvalid(ValueError):
    """A step's artifact cannot be known when the run starts. `key` is its place."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(reason)
        self.key = key


def millis(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)


def starts_at(start: StartRun, now: int) -> int | None:
    """When a run is to start that does not start at once."""
    if start.at is not None:
        at = round(start.at.timestamp() * 1000)
    else:
        at = now + millis(start.after or timedelta())
    return at if at > now else None


def postponed(asked: PostponeRun, starts_at: int, now: int) -> int | None:
    """When a run that was to start then is to start now; None for a time it cannot be given.

    A run whose time has come, but which still waits for another, is pushed on from now.
    """
    if asked.to is not None:
        at = round(asked.to.timestamp() * 1000)
    else:
        at = max(starts_at, now) + millis(asked.by or timedelta())
    return at if starts_at <= at <= now + FARTHEST_MS else None


def retry_policy(retry: Retry) -> RetryPolicy:
    return RetryPolicy(
        on_timeout="timeout" in retry.on,
        on_failure="failure" in retry.on,
        delay=millis(retry.delay),
        backoff=retry.backoff,
        max_delay=None if retry.max_delay is None else millis(retry.max_delay),
    )


def offered_steps(document: JobDocument, name: str | None = None) -> list[OfferedStep]:
    """The steps of one of the job's lists, the first if none is named, as gateways perform them."""
    lists = step_lists(document)
    steps = lists.get(name) if name is not None else None
    return expand(next(iter(lists.values())) if steps is None else steps)


def needed_verbs(document: JobDocument) -> list[str]:
    """Every verb that a task of the job may need of its gateway."""
    steps = (step for name in step_lists(document) for step in offered_steps(document, name))
    return sorted(set[str]().union(*(verbs_in(step.uses, step.with_) for step in steps)))


def artifact_texts(document: JobDocument) -> list[ArtifactText]:
    """Every place that names an artifact, and what stands there."""
    is_of_device = document.targets.resource != "gateway"
    return [
        found
        for steps in step_lists(document).values()
        for index, step in enumerate(steps)
        for found in _artifacts_in(f"steps[{index}].with", step.with_, is_of_device)
    ]


def _artifacts_in(
    place: str, parameters: Mapping[str, JsonValue], is_image: bool
) -> Iterator[ArtifactText]:
    """An `artifact`, one for each slot, a `fallback`, and those of `images` and `members`."""
    for word in ("artifact", "fallback"):
        given = parameters.get(word)
        if isinstance(given, str):
            yield ArtifactText(f"{place}.{word}", given, is_image)
        elif isinstance(given, dict):
            for slot, name in given.items():
                if isinstance(name, str):
                    yield ArtifactText(f"{place}.{word}.{slot}", name, is_image)
    for key in ("images", "members"):
        listed = parameters.get(key)
        for number, each in enumerate(listed if isinstance(listed, list) else []):
            if isinstance(each, dict):
                # Whom a template names is known to the gateway, which looks at the file itself.
                device = each.get("device")
                is_own = device == THIS_GATEWAY or (isinstance(device, str) and "{{" in device)
                is_one = not is_own if key == "members" else is_image
                yield from _artifacts_in(f"{place}.{key}[{number}]", each, is_one)


def check_artifact_text(key: str, text: str) -> None:
    """Raise ArtifactNameInvalid for a template that a run's start cannot render."""
    others = sorted(template_dialect.check(text) - START_NAMES)
    if others:
        raise ArtifactNameInvalid(
            key,
            f"an artifact is resolved when the run starts, so only ctx and run can be used here, "
            f"not {', '.join(others)}",
        )


def wanted_artifacts(document: JobDocument, scope: Mapping[str, JsonValue]) -> list[Wanted]:
    """The artifacts of all steps, rendered; raises ArtifactNameInvalid."""
    found = []
    for key, text, is_image in artifact_texts(document):
        try:
            check_artifact_text(key, text)
            name = template_dialect.render(text, scope)
        except template_dialect.TemplateError as error:
            raise ArtifactNameInvalid(key, str(error)) from error
        if not isinstance(name, str) or not name:
            raise ArtifactNameInvalid(key, "the name of an artifact is a text")
        found.append(Wanted(key, name, is_image))
    return found


def _acknowledge(document: JobDocument) -> OfferedAcknowledge | None:
    asked = document.iteration.acknowledge
    if asked == "steps":
        return None
    return OfferedAcknowledge(topic=asked.explicit.topic, match=asked.explicit.match)


def job_body(
    run: str,
    job: str,
    document: JobDocument,
    steps: Sequence[OfferedStep],
    context: Mapping[str, JsonValue],
    artifacts: Mapping[str, ArtifactRef],
) -> JobBody:
    """What all tasks of the run share, named by the hash of its own JSON."""
    body = JobBody(
        run=run,
        hash="",
        job=job,
        name=document.name[:256],
        type=document.type,
        steps=list(steps),
        context=dict(context),
        artifacts=dict(artifacts),
        keep_response=document.iteration.keep_response,
        acknowledge=_acknowledge(document),
    )
    return hashed(body)


def hashed(body: JobBody) -> JobBody:
    """The body, named by the hash of its own JSON."""
    nameless = body.model_copy(update={"hash": ""})
    digest = sha256(nameless.model_dump_json(by_alias=True).encode()).hexdigest()[:32]
    return body.model_copy(update={"hash": digest})
