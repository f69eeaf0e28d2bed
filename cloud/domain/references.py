"""Which other jobs a job's document names, and where."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from contract.job_document import JobDocument, step_lists
from contract.template_dialect import is_template

TRIGGERS: Final = ("on_timeout", "on_complete")


@dataclass(frozen=True, slots=True)
class Named:
    """`kind` is on_timeout, on_complete, replaces or the verb of a step."""

    kind: str
    place: str
    job: str


def named_jobs(document: JobDocument) -> list[Named]:
    """Every place that names another job; one that a template computes cannot be known."""
    return list(_named(document))


def _named(document: JobDocument) -> Iterator[Named]:
    for index, timeout in enumerate(document.on_timeout):
        yield Named("on_timeout", f"on_timeout[{index}]", timeout.run)
    for index, complete in enumerate(document.on_complete):
        yield Named("on_complete", f"on_complete[{index}]", complete.run)
    for index, job in enumerate(document.replaces):
        yield Named("replaces", f"replaces[{index}]", job)
    for name, steps in step_lists(document).items():
        at = "steps" if isinstance(document.steps, list) else f"steps.{name}"
        for index, step in enumerate(steps):
            found = step.with_.get("job")
            if step.uses.startswith("fleet.") and isinstance(found, str) and not is_template(found):
                yield Named(step.uses, f"{at}[{index}]", found)
