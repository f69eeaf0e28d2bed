"""certificate.request, sign, install, verify and commit.

The key is made on the device and stays there; the cloud signs; the new certificate stands beside
the old one until the device has connected with it. Each verb but `sign` begins with a look at the
device, so doing one again is harmless. A device goes back by itself from what was not committed.
"""

import binascii
import re
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Final

from pydantic import JsonValue

from contract.steps import (
    AfterRestart,
    CertificateParameters,
    CsrParameters,
    InstallParameters,
    SignParameters,
)
from gateway.actions.base import (
    Action,
    Call,
    Reach,
    StepDone,
    StepOutcome,
    StepRefused,
    parsed,
    stamp_of,
)
from gateway.drivers.base import (
    Answered,
    CertificateState,
    CommitCertificate,
    DeviceRequest,
    InstallCertificate,
    MakeCsr,
    ReadCertificate,
    Refused,
    TestCertificate,
)
from gateway.errors import CallRefused, StepInvalid

# How long a device may take from "I try it" to using it.
SETTLE_S: Final = 30.0
LOOK_EVERY_S: Final = 0.5
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_END: Final = "-----END CERTIFICATE-----"


class _Stop(Exception):
    """The step ends here, refused."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.outcome = StepRefused(code, text)


class CertificateRequest:
    """Have the device make a key and a CSR. Asked again with the same name, it gives the same."""

    after_restart = AfterRestart.RESUME

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        asked = parsed(CsrParameters, call)
        slot = _slot(asked.slot)
        try:
            state = await _look(call, reach, slot)
            request = MakeCsr(_name_of(call), asked.subject or _device(call), slot)
            answer = await _ask(call, reach, request, "device_refused")
        except _Stop as stop:
            return stop.outcome
        result = answer.result if isinstance(answer.result, Mapping) else {}
        csr = result.get("csr")
        if not isinstance(csr, str) or not csr.strip():
            return StepRefused("device_refused", "the device gave no CSR")
        facts: dict[str, JsonValue] = {"csr": csr, "key_id": result.get("key_id") or ""}
        return StepDone(facts, {**facts, "previous_certificate": state.in_use})


class CertificateSign:
    """Have the cloud sign it: for this device, whatever the CSR says."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        asked = parsed(SignParameters, call)
        csr = asked.csr or _remembered(call, "csr")
        if not csr:
            raise StepInvalid("certificate.sign needs a `csr`, or a certificate.request before it")
        # Without a key of the job's own: that would give one device's certificate to all others.
        body: dict[str, JsonValue] = {"csr": csr, "days": _whole(asked.days, "days")}
        try:
            signed = await reach.ask_cloud(replace(call, parameters=body, key=None))
        except CallRefused as error:
            return StepRefused(error.code, str(error), error.result)
        if not isinstance(signed, dict) or not isinstance(signed.get("certificate"), str):
            return StepRefused("call_refused", "the cloud gave no certificate")
        memory = {name: signed.get(name, "") for name in ("certificate", "chain", "serial")}
        return StepDone(signed, memory)


class CertificateInstall:
    """Put the certificate beside the one in use."""

    after_restart = AfterRestart.RESUME

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        asked = parsed(InstallParameters, call)
        slot = _slot(asked.slot)
        certificate = asked.certificate or _remembered(call, "certificate")
        if not certificate:
            text = "certificate.install needs a `certificate`, or a certificate.sign before it"
            raise StepInvalid(text)
        chain = asked.chain or ("" if asked.certificate else _remembered(call, "chain"))
        fingerprint = fingerprint_of(certificate)
        memory: dict[str, JsonValue] = {"certificate_fingerprint": fingerprint}
        try:
            state = await _look(call, reach, slot)
            if fingerprint in (state.pending, state.active):
                return StepDone(_about(state), memory, "the device already holds the certificate")
            request = InstallCertificate(certificate, chain, fingerprint, slot)
            await _ask(call, reach, request, "certificate_refused")
            state = await _look(call, reach, slot)
        except _Stop as stop:
            return stop.outcome
        if fingerprint not in (state.pending, state.active):
            text = "the device took the certificate and does not list it"
            return StepRefused("certificate_refused", text)
        return StepDone(_about(state), memory)


class CertificateVerify:
    """Have the device connect with the new certificate, and read back that it does."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        asked = parsed(CertificateParameters, call)
        slot, fingerprint = _slot(asked.slot), _wanted(call, asked.fingerprint)
        try:
            state = await _look(call, reach, slot)
            if state.in_use != fingerprint:
                request = TestCertificate(fingerprint, slot)
                await _ask(call, reach, request, "certificate_not_used", has_to=False)
                state = await _settled(call, reach, slot, fingerprint)
        except _Stop as stop:
            return stop.outcome
        if state.in_use != fingerprint:
            return StepRefused("certificate_not_used", _why_not(state))
        return StepDone(_about(state))


class CertificateCommit:
    """Keep the certificate in use for good; the one before is retired, there and in the cloud."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        asked = parsed(CertificateParameters, call)
        slot, fingerprint = _slot(asked.slot), _wanted(call, asked.fingerprint)
        note = ""
        try:
            state = await _look(call, reach, slot)
            if state.active == fingerprint:
                note = "the certificate was already committed"
            elif state.in_use != fingerprint:
                raise _Stop("certificate_not_used", _why_not(state))
            else:
                request = CommitCertificate(fingerprint, slot)
                await _ask(call, reach, request, "device_refused", has_to=False)
                state = await _look(call, reach, slot)
        except _Stop as stop:
            return stop.outcome
        if state.active != fingerprint or state.in_use != fingerprint:
            return StepRefused("device_refused", "the device kept the certificate before")
        facts = {**_about(state), "previous": _remembered(call, "previous_certificate")}
        if not _is_ours(call, fingerprint):
            return StepDone(facts, note=note)
        try:
            body: dict[str, JsonValue] = {"fingerprint": fingerprint}
            told = await reach.ask_cloud(replace(call, parameters=body, key=None))
        except CallRefused as error:
            return StepRefused(error.code, str(error), error.result)
        return StepDone({**facts, **(told if isinstance(told, dict) else {})}, note=note)


async def _ask(
    call: Call, reach: Reach, request: DeviceRequest, refused_as: str, *, has_to: bool = True
) -> Answered:
    """Ask the device; what it need not be able to do counts as done where it has no verb for it."""
    answer = await reach.ask_device(request, call.timeout_s, reach.progress)
    if isinstance(answer, Answered):
        return answer
    if answer.code == "verb_unsupported" and not has_to:
        return Answered()
    raise _refusal(answer, refused_as)


def _refusal(answer: Refused, code: str) -> _Stop:
    return _Stop(code if answer.code == "device_refused" else answer.code, answer.text)


async def _look(call: Call, reach: Reach, slot: int) -> CertificateState:
    answer = await _ask(call, reach, ReadCertificate(slot), "device_refused")
    if answer.certificate is None:
        raise StepInvalid("the device's driver cannot read certificates", "verb_unsupported")
    return answer.certificate


async def _settled(call: Call, reach: Reach, slot: int, fingerprint: str) -> CertificateState:
    """Look until the device uses the certificate, or says why it does not."""
    until_ms = reach.now_ms() + int(min(SETTLE_S, call.timeout_s / 2) * 1000)
    while True:
        state = await _look(call, reach, slot)
        if state.in_use == fingerprint or state.why or reach.now_ms() >= until_ms:
            return state
        await reach.sleep(LOOK_EVERY_S)


def fingerprint_of(pem: str) -> str:
    """The sha256 of the first certificate's DER, in hex. Raises StepInvalid."""
    _, begin, rest = pem.partition(_BEGIN)
    body, end, _ = rest.partition(_END)
    try:
        der = binascii.a2b_base64("".join(body.split()), strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise StepInvalid(f"`certificate` is no PEM: {error}") from error
    if not begin or not end or not der:
        raise StepInvalid("`certificate` is no PEM")
    return sha256(der).hexdigest()


def _name_of(call: Call) -> str:
    """What this step's key is called: the same after a restart, another in the next attempt."""
    stamp = stamp_of(call)
    text = f"{stamp['task']}/{stamp['attempt']}/{call.step}"
    return sha256(text.encode()).hexdigest()[:32]


def _device(call: Call) -> str:
    device = call.scope.get("device")
    name = device.get("id") if isinstance(device, dict) else None
    return name if isinstance(name, str) else ""


def _wanted(call: Call, given: str | None) -> str:
    fingerprint = given or _remembered(call, "certificate_fingerprint")
    if not fingerprint:
        text = f"{call.uses} needs a `fingerprint`, or a certificate.install before it"
        raise StepInvalid(text)
    if not _FINGERPRINT.fullmatch(fingerprint.lower()):
        raise StepInvalid(f"{call.uses}: `fingerprint` is a sha256 in hex")
    return fingerprint.lower()


def _is_ours(call: Call, fingerprint: str) -> bool:
    """Whether the cloud's CA gave it, in this attempt."""
    certificate = _remembered(call, "certificate")
    return bool(certificate) and fingerprint_of(certificate) == fingerprint


def _why_not(state: CertificateState) -> str:
    return (
        f"the device goes on with {state.in_use[:16] or 'none'}: {state.why or 'it says not why'}"
    )


def _slot(value: object) -> int:
    return 0 if value is None else _whole(value, "slot")


def _whole(value: object, name: str) -> int:
    """A parameter that templates may have filled. Raises StepInvalid."""
    if not isinstance(value, int):
        raise StepInvalid(f"`{name}` is a whole number, not {value!r}"[:200])
    return value


def _remembered(call: Call, key: str) -> str:
    value = call.memory.get(key)
    return value if isinstance(value, str) else ""


def _about(state: CertificateState) -> dict[str, JsonValue]:
    return {"in_use": state.in_use, "active": state.active, "pending": state.pending}


ACTIONS: Final[dict[str, Action]] = {
    "certificate.request": CertificateRequest(),
    "certificate.sign": CertificateSign(),
    "certificate.install": CertificateInstall(),
    "certificate.verify": CertificateVerify(),
    "certificate.commit": CertificateCommit(),
}
