"""What steps ask of the cloud: done once, with the rights of who started the run.

A call is served only while its attempt is open on the gateway and journal that ask, and if the
frozen steps have that verb at that place. Its success is remembered in the transaction of its
effect, so a repeated call is answered and not done again.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import JsonValue, ValidationError

from cloud.certificates.base import CsrRefused, Name
from cloud.coordinator import (
    acknowledgments,
    certificates,
    data_tables,
    devices,
    extensions,
    postponing,
    runs,
)
from cloud.coordinator.access import Caller
from cloud.coordinator.secrets import Vault
from cloud.domain import triggers
from cloud.errors import Conflict, Invalid, NotFound, NotPermitted, StorageUnavailable
from cloud.storage import calls as stored
from cloud.storage import reports, samples, sessions, tasks
from cloud.storage import runs as stored_runs
from cloud.storage.database import Session
from cloud.storage.json_text import clean, to_json
from cloud.storage.schema import RunRow
from cloud.storage.tasks import StoredTask
from contract.http.history import ExtendRun
from contract.http.runs import CancelRun, PostponeRun, StartRun
from contract.http.targets import EditDevice
from contract.http.tasks import AcknowledgeTask
from contract.ids import OrgId
from contract.lifecycle import TASK_OPEN
from contract.messages import Call, JobBody
from contract.steps import DEFAULT_CERTIFICATE_DAYS, VERBS, verbs_in
from contract.topics import Address

DEFAULT_ROLE: Final = "operator"


class CallRefused(Exception):
    """The answer to a call is no. `result` may say more than the text."""

    def __init__(self, text: str, code: str = "call_refused", result: JsonValue = None) -> None:
        super().__init__(text)
        self.code = code
        self.result = result


@dataclass
class Served:
    """The answer to a call, and the runs that it touched."""

    result: JsonValue
    runs: set[str] = field(default_factory=set)
    fresh: bool = True


@dataclass(frozen=True)
class Asked:
    """A call that may be served, and what serving it needs."""

    call: Call
    run: RunRow
    task: StoredTask
    caller: Caller
    now: int
    new_id: Callable[[], str]
    vault: Vault | None = None

    @property
    def body(self) -> Mapping[str, Any]:
        return self.call.body


def serve(
    session: Session,
    address: Address,
    call: Call,
    now: int,
    new_id: Callable[[], str],
    vault: Vault | None = None,
) -> Served | None:
    """Do what a call asks, or say again what it gave; None for a session that is not the current.

    Raises CallRefused, with nothing done.
    """
    name = (address.org, address.gateway)
    if sessions.current(session, {name}).get(name) != call.session:
        return None
    run_id, _, ordinal = call.task.rpartition("-")
    key = (run_id, int(ordinal) if ordinal.isdecimal() and len(ordinal) < 10 else -1)
    task = tasks.load(session, [key]).get(key)
    if task is None or task.org != address.org:
        raise CallRefused(f"there is no task {call.task}")
    known = stored.result_of(session, run_id, call.key)
    if known is not None:
        return Served(json.loads(known), fresh=False)
    run = stored_runs.get(session, run_id)
    assert run is not None
    _check(session, address, call, task, run)
    role = stored.role_of(session, run.run_by) or DEFAULT_ROLE
    caller = Caller(OrgId(run.org), run.run_by, run.run_by_name, role)
    served = _do(session, Asked(call, run, task, caller, now, new_id, vault))
    kept = stored.remember(
        session,
        {"run": run_id, "key": clean(call.key), "org": run.org, "ordinal": task.ordinal,
         "attempt": call.attempt, "step": clean(call.step), "verb": call.verb,
         "result": to_json(served.result), "at": now},
    )  # fmt: skip
    if not kept:
        # Another task of the run, with the same key of the job's own, was a moment faster.
        raise StorageUnavailable("the call is being done for another task")
    return served


def _check(session: Session, address: Address, call: Call, task: StoredTask, run: RunRow) -> None:
    facts = task.facts
    journal = reports.journals_of(session, {(address.org, address.gateway)})
    bound = (address.gateway, journal.get((address.org, address.gateway)))
    if (
        facts.status not in TASK_OPEN
        or facts.attempt != call.attempt
        or (facts.gateway, facts.journal) != bound
    ):
        raise CallRefused(f"attempt {call.attempt} of task {call.task} is not open here")
    steps = {step.id: step for step in JobBody.model_validate_json(run.body).steps}
    step = steps.get(call.step)
    if step is None or call.verb not in verbs_in(step.uses, step.with_):
        raise CallRefused(f"the job has no `{call.verb}` at step `{call.step}`")


def _do(session: Session, asked: Asked) -> Served:
    verb = VERBS.get(asked.call.verb)
    serve_verb = _SERVED.get(asked.call.verb)
    if verb is None or serve_verb is None:
        raise CallRefused(f"this cloud does not do `{asked.call.verb}`", "verb_unsupported")
    try:
        verb.parameters.model_validate(dict(asked.body))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise CallRefused(f"{asked.call.verb}: {place}: {first['msg']}", "step_invalid") from error
    try:
        served = serve_verb(session, asked)
    except Conflict as error:
        more: JsonValue = {"run": error.run} if error.run else None
        raise CallRefused(str(error), result=more) from error
    except Invalid as error:
        items = "; ".join(f"{item.key}: {item.message}" for item in error.items)
        raise CallRefused(f"{error}{'; ' if items else ''}{items}") from error
    except (NotFound, NotPermitted) as error:
        raise CallRefused(str(error)) from error
    except CsrRefused as error:
        raise CallRefused(str(error), "csr_refused") from error
    data: dict[str, JsonValue] = {"verb": asked.call.verb, "step": asked.call.step}
    reports.log(
        session, asked.run.org, asked.run.id, asked.now, "done for a step",
        ordinal=asked.task.ordinal, data=data,
    )  # fmt: skip
    return served


# -- verbs


def _device(asked: Asked) -> str:
    device = asked.body.get("device") or asked.task.device
    if not device:
        raise CallRefused("the task has no device: say which with `device`", "step_invalid")
    return str(device)


def _edit(section: str) -> "Callable[[Session, Asked], Served]":
    def serve_edit(session: Session, asked: Asked) -> Served:
        device, values = _device(asked), asked.body[section]
        for name in values:
            if not name or len(name) > 128:
                raise CallRefused(f"`{name[:128]}` is no name of a tag or attribute")
        edit = EditDevice.model_validate({section: values})
        edited = devices.edit_device(session, asked.caller, device, edit)
        return Served({section: dict(getattr(edited, section))}, {asked.run.id})

    return serve_edit


def _record_state(session: Session, asked: Asked) -> Served:
    device, values = _device(asked), asked.body["values"]
    if not samples.record(session, asked.run.org, device, values, asked.now):
        raise NotFound(f"device `{device}`")
    return Served({"device": device}, {asked.run.id})


def _write_row(session: Session, asked: Asked) -> Served:
    table, values, key = str(asked.body["table"]), asked.body["values"], asked.body.get("row")
    org = asked.run.org
    if key is None:
        (key,) = data_tables.add_rows(session, OrgId(org), table, [values], asked.now)
    else:
        data_tables.edit_row(session, org, table, int(key), values, asked.now)
    return Served({"table": table, "row": int(key)}, {asked.run.id})


def _extend_run(session: Session, asked: Asked) -> Served:
    run = str(asked.body.get("run") or asked.run.id)
    try:
        extend = ExtendRun.model_validate({"items": asked.body["items"]})
    except ValidationError as error:
        raise CallRefused(f"items: {error.errors()[0]['msg']}", "step_invalid") from error
    extensions.extend_run(session, asked.caller, run, extend, asked.now)
    return Served({"run": run, "added": len(extend.items)}, {asked.run.id, run})


def _delete(session: Session, asked: Asked) -> Served:
    if asked.body.get("table") is not None:
        table, row = str(asked.body["table"]), int(asked.body["row"])
        data_tables.delete_row(session, asked.caller, table, row)
        return Served({"table": table, "deleted": row}, {asked.run.id})
    device = _device(asked)
    match stored.delete_device(session, asked.run.org, device):
        case "absent":
            raise NotFound(f"device `{device}`")
        case "owned":
            raise CallRefused(f"a gateway owns `{device}`: it would come back with its next hello")
        case "held":
            raise CallRefused(f"a task has the device `{device}`")
    return Served({"deleted": device}, {asked.run.id})


def _acknowledge(session: Session, asked: Asked) -> Served:
    body = asked.body
    word = AcknowledgeTask(
        success=bool(body.get("success", True)),
        result=body.get("result"),
        accumulator=body.get("accumulator"),
        text=body.get("text", ""),
    )
    by = f"task {asked.call.task}, step {asked.call.step}"
    said = acknowledgments.acknowledge(
        session, asked.run.org, str(body["task"]), word, by, asked.now
    )
    if not said.counts:
        # Not raised: the line in the other run's log has to stay.
        return Served({"acknowledged": False, "why": said.detail}, {asked.run.id, said.run})
    return Served({"acknowledged": True}, {asked.run.id, said.run})


def _run_job(session: Session, asked: Asked) -> Served:
    refusal = triggers.refusal(asked.run.depth)
    if refusal is not None:
        raise CallRefused(refusal)
    body, new_id = asked.body, asked.new_id()
    start = StartRun(context=body.get("context"), query=body.get("query"))
    started = runs.start_run(session, asked.caller, str(body["job"]), start, new_id, asked.now)
    row = stored_runs.get(session, started.id, lock=True)
    assert row is not None
    row.origin, row.origin_run, row.depth = "step", asked.run.id, asked.run.depth + 1
    row.origin_task, row.origin_step = asked.call.task, asked.call.step
    session.add(row)
    session.flush()
    return Served({"run": started.id, "job": started.job}, {asked.run.id, started.id})


def _postpone_run(session: Session, asked: Asked) -> Served:
    run = str(asked.body["run"])
    try:
        postpone = PostponeRun.model_validate(
            {name: value for name, value in asked.body.items() if name != "run"}
        )
    except ValidationError as error:
        raise CallRefused(error.errors()[0]["msg"], "step_invalid") from error
    found = postponing.postpone_run(session, asked.caller, run, postpone, asked.now)
    assert found.starts_at is not None
    return Served({"run": run, "starts_at": found.starts_at.isoformat()}, {asked.run.id, run})


def _cancel_run(session: Session, asked: Asked) -> Served:
    body = asked.body
    run = str(body.get("run") or asked.run.id)
    cancel = CancelRun(force=bool(body.get("force", False)), reason=str(body.get("reason", "")))
    cancelled = runs.cancel_run(session, asked.caller, run, cancel, asked.now)
    return Served({"run": run, "status": cancelled.status.value}, {asked.run.id, run})


def _sign(session: Session, asked: Asked) -> Served:
    """For the task's own device, whatever the request says."""
    if asked.task.device is None or asked.vault is None:
        raise CallRefused("only a device is given a certificate", "step_invalid")
    days = asked.body.get("days", DEFAULT_CERTIFICATE_DAYS)
    if not isinstance(days, int):
        raise CallRefused("days: a whole number is wanted", "step_invalid")
    signed = certificates.sign(
        session,
        asked.vault,
        Name(asked.run.org, asked.task.device),
        str(asked.body.get("csr") or ""),
        days,
        asked.now,
        run=asked.run.id,
        ordinal=asked.task.ordinal,
        attempt=asked.call.attempt,
        step=asked.call.step,
    )
    result: dict[str, JsonValue] = {
        "certificate": signed.certificate,
        "chain": signed.chain,
        "serial": signed.serial,
        "fingerprint": signed.fingerprint,
        "not_after": certificates.moment(signed.not_after),
    }
    return Served(result, {asked.run.id})


def _commit_certificate(session: Session, asked: Asked) -> Served:
    device, fingerprint = asked.task.device, str(asked.body.get("fingerprint") or "")
    if device is None:
        raise CallRefused("only a device has certificates", "step_invalid")
    serial, retired = certificates.commit(session, asked.run.org, device, fingerprint, asked.now)
    return Served({"serial": serial, "retired": retired}, {asked.run.id})


_SERVED: Final[Mapping[str, Callable[[Session, Asked], Served]]] = {
    "fleet.tag": _edit("tags"),
    "fleet.set": _edit("attributes"),
    "fleet.record_state": _record_state,
    "fleet.write_row": _write_row,
    "fleet.delete": _delete,
    "fleet.extend_run": _extend_run,
    "fleet.acknowledge": _acknowledge,
    "fleet.run_job": _run_job,
    "fleet.postpone_run": _postpone_run,
    "fleet.cancel_run": _cancel_run,
    "certificate.sign": _sign,
    "certificate.commit": _commit_certificate,
}
