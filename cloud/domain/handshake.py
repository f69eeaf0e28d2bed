"""A gateway's hello: whether it is let in, and what it holds against what we hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from contract.admission import is_proof
from contract.lifecycle import TASK_ENDS, TASK_OPEN, TaskStatus
from contract.messages import Hello, TaskMark

Name = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Admission:
    """What is known of a gateway before it is let in; `key` is what is kept of its token.

    `next_key` is that of a replacement's token. `is_journal_retired` is about the hello's journal.
    """

    key: str
    journal: str | None = None
    next_key: str | None = None
    must_prove: bool = False
    is_retired: bool = False
    mark: str = ""
    is_journal_retired: bool = False


@dataclass(frozen=True, slots=True)
class Admitted:
    """`by_next`: with the replacement's token, which is the gateway's from now on."""

    by_next: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """`code` is one of `contract.admission.REFUSALS`."""

    code: str


def admit(known: Admission, hello: Hello) -> Admitted | Refusal:
    """Whether a hello is let in.

    Whoever has the token of a replacement was let in by a person, whatever its journal was before.
    """
    if known.is_retired:
        return Refusal("gateway_retired")
    said = hello.nonce, hello.journal, hello.instance
    if known.next_key is not None and is_proof(hello.proof, known.next_key, *said):
        return Admitted(by_next=True)
    if hello.proof:
        if not is_proof(hello.proof, known.key, *said):
            return Refusal("token_void")
    elif known.must_prove:
        return Refusal("token_void")
    if known.is_journal_retired:
        return Refusal("journal_retired")
    is_followed = hello.journal == known.journal and known.mark and hello.mark
    if is_followed and known.mark not in (hello.mark, hello.last_mark):
        return Refusal("journal_copied")
    return Admitted()


@dataclass(frozen=True, slots=True)
class Ours:
    """An open attempt of ours, bound to this gateway and journal."""

    task: str
    attempt: int
    revision: int
    status: TaskStatus


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt of this gateway that has ended here."""

    revision: int
    forced: bool = False


@dataclass
class Corrections:
    """What follows from the comparison, as `(task, attempt)`.

    `offer`: it never arrived, offer it again now. `missing`: the gateway had it and no longer
    lists it. `orphaned`: we have never heard of it.
    """

    forget: list[Name] = field(default_factory=list)
    report: list[Name] = field(default_factory=list)
    cancel: list[tuple[Name, bool]] = field(default_factory=list)
    offer: list[Name] = field(default_factory=list)
    missing: list[Name] = field(default_factory=list)
    orphaned: list[TaskMark] = field(default_factory=list)


def compare(
    ours: Sequence[Ours], ended: Mapping[Name, Ended], marks: Sequence[TaskMark]
) -> Corrections:
    """Compare our open attempts and the ended ones among theirs with the marks of all pages."""
    found = Corrections()
    open_here = {(one.task, one.attempt): one for one in ours}
    listed = set()
    for mark in marks:
        name = mark.task, mark.attempt
        listed.add(name)
        here = open_here.get(name)
        if here is not None:
            if (mark.revision, mark.status) != (here.revision, here.status):
                found.report.append(name)
        elif name in ended:
            _compare_ended(ended[name], mark, found)
        else:
            found.orphaned.append(mark)
    for name, one in open_here.items():
        if name not in listed:
            (found.offer if one.status is TaskStatus.OFFERED else found.missing).append(name)
    return found


def _compare_ended(here: Ended, mark: TaskMark, found: Corrections) -> None:
    name = mark.task, mark.attempt
    if mark.status in TASK_ENDS:
        if mark.revision > here.revision:
            found.report.append(name)
    elif mark.status in (TaskStatus.OFFERED, TaskStatus.ACCEPTED):
        found.forget.append(name)
    elif mark.status in TASK_OPEN:
        found.cancel.append((name, here.forced))
