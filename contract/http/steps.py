"""The step library, as the API publishes it."""

from typing import Any

from contract import steps
from contract.http import Body


class StepVerb(Body):
    """One verb: what it does, the JSON Schema of its `with`, what a restart in it means."""

    name: str
    summary: str
    description: str
    after_restart: str
    macro: bool = False
    parameters: dict[str, Any]


def library() -> list[StepVerb]:
    """Every verb a step may use, by name."""
    return [
        StepVerb(
            name=verb.name,
            summary=verb.summary,
            description=(verb.parameters.__doc__ or "").strip(),
            after_restart=verb.after_restart.value,
            macro=verb.macro,
            parameters=verb.parameters.model_json_schema(by_alias=True),
        )
        for _, verb in sorted(steps.VERBS.items())
    ]
