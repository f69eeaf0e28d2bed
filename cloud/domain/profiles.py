"""What a gateway's word means for one profile that it is to hold, or to hold no more."""

from dataclasses import dataclass
from enum import Enum

from contract.messages import HeldProfile


class Unanswered(Enum):
    """It has not come to it yet."""

    YET = "yet"


@dataclass(frozen=True)
class Held:
    """It is so: in use, or withdrawn. `problem` is about something else, such as a newer file."""

    problem: str = ""


@dataclass(frozen=True)
class Refused:
    problem: str


Verdict = Unanswered | Held | Refused


def verdict(wanted: str | None, said: HeldProfile | None) -> Verdict:
    """`wanted` is the digest of the wish, None for a withdrawal; `said` of the same revision."""
    if wanted is None:
        if said is None or said.sha256 is None:
            return Held("" if said is None else said.problem)
        in_the_way = said.problem and said.refused is None
        return Refused(said.problem) if in_the_way else Unanswered.YET
    if said is None:
        return Unanswered.YET
    if said.refused == wanted:
        return Refused(said.problem or "it gave no reason")
    return Held(said.problem) if said.sha256 == wanted else Unanswered.YET
