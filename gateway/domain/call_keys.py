"""What names a step's request to the cloud: the same request always has the same name."""

import json
from collections.abc import Mapping
from hashlib import sha256

from pydantic import JsonValue


def call_key(
    run: str,
    task: str,
    step: str,
    item: int | None,
    body: Mapping[str, JsonValue],
    given: str | None = None,
) -> str:
    """The key of a call, over all attempts of its task.

    `given` is the job's own name for it, which counts for the whole run; without one it is made
    of task, step, place in a loop, and body. 32 hex digits.
    """
    parts = [run, given] if given is not None else [task, step, item, body]
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:32]
