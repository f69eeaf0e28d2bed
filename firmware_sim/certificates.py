"""A device's certificates as its protocols speak of them: over SMP in pieces, over MQTT as PEM."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from contract.device import smp_certificates as wire
from contract.device.smp import Op, SmpInvalid
from firmware_sim.keystore import NO_CERTIFICATE, Keystore, KeystoreRefused, csr_pem, ders_in

PIECE: Final = 192
NO_BEGINNING: Final = 9
DAMAGED: Final = 10


class SmpCertificates:
    """Our management group on one device. What is half received is lost with a boot."""

    def __init__(self, keystore: Keystore) -> None:
        self._keys = keystore
        self._sha256 = b""
        self._length = 0
        self._data = bytearray()

    def boot(self) -> None:
        self._sha256, self._length = b"", 0
        self._data.clear()

    def answer(self, op: int, command: int, payload: Mapping[str, Any]) -> dict[str, Any] | None:
        """The reply; None for what the group does not know. Raises KeystoreRefused."""
        slot = payload.get("slot", 0)
        number = slot if isinstance(slot, int) else -1
        match (op, command):
            case (Op.READ, wire.STATE):
                return self._state(number)
            case (Op.WRITE, wire.CSR):
                request, subject = str(payload.get("req", "")), str(payload.get("cn", ""))
                made = self._keys.request(number, request, subject)
                return {"len": len(made.csr), "key": made.key_id}
            case (Op.READ, wire.CSR):
                return self._piece(number, payload.get("off", 0))
            case (Op.WRITE, wire.CERTIFICATE):
                return self._take(number, payload)
            case (Op.WRITE, wire.TEST):
                self._keys.test(number, _fingerprint(payload))
                return {}
            case (Op.WRITE, wire.COMMIT):
                self._keys.commit(number, _fingerprint(payload))
                return {}
        return None

    def _state(self, number: int) -> dict[str, Any]:
        slot = self._keys.slot(number)
        state: dict[str, Any] = {
            "active": slot.active.fingerprint,
            "use": slot.in_use.fingerprint,
        }
        if slot.pending is not None:
            state |= {"req": slot.pending.request, "key": slot.pending.key_id}
            if slot.pending.certificate:
                state["pending"] = slot.pending.fingerprint
        if slot.why:
            state["why"] = slot.why
        return state

    def _piece(self, number: int, offset: object) -> dict[str, Any]:
        pending = self._keys.slot(number).pending
        csr = b"" if pending is None else pending.csr
        if not isinstance(offset, int) or not 0 <= offset < len(csr):
            raise KeystoreRefused(NO_BEGINNING, "the CSR holds nothing there")
        return {"off": offset, "len": len(csr), "data": csr[offset : offset + PIECE]}

    def _take(self, number: int, payload: Mapping[str, Any]) -> dict[str, Any]:
        match payload:
            case {"off": 0, "len": int(length), "sha": bytes(digest), "data": bytes(data)}:
                if digest != self._sha256:
                    self._sha256, self._length = digest, length
                    self._data = bytearray(data)
            case {"off": int(offset), "data": bytes(data)} if self._sha256:
                if offset == len(self._data):
                    self._data += data
            case _:
                raise KeystoreRefused(NO_BEGINNING, "data without a beginning")
        if len(self._data) > min(self._length, wire.MAX_BYTES):
            self.boot()
            raise KeystoreRefused(NO_BEGINNING, "more data than announced")
        if len(self._data) == self._length:
            self._install(number)
        return {"off": len(self._data)}

    def _install(self, number: int) -> None:
        data, digest = bytes(self._data), self._sha256
        try:
            if sha256(data).digest() != digest:
                raise KeystoreRefused(DAMAGED, "the data is damaged")
            certificate, *chain = wire.unbundle(data)
            self._keys.install(number, certificate, chain)
        except SmpInvalid as error:
            self.boot()
            raise KeystoreRefused(NO_CERTIFICATE, str(error)) from error
        except KeystoreRefused:
            self.boot()
            raise


def over_mqtt(keys: Keystore, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """Answer a command about certificates; None for another. Raises KeystoreRefused."""
    slot = request.get("slot")
    number = slot if isinstance(slot, int) else 0
    match request.get("command"):
        case "certificate":
            return _shown(keys, number)
        case "csr":
            made = keys.request(
                number, str(request.get("request", "")), str(request.get("subject") or "")
            )
            return {"csr": csr_pem(made.csr), "key_id": made.key_id.hex()}
        case "install_certificate":
            certificate = ders_in(str(request.get("certificate", "")))[0]
            chain = str(request.get("chain") or "")
            keys.install(number, certificate, ders_in(chain) if chain else [])
        case "test_certificate":
            keys.test(number, _hex(request))
            slot_now = keys.slot(number)
            if slot_now.why:
                raise KeystoreRefused(0, slot_now.why)
        case "commit_certificate":
            keys.commit(number, _hex(request))
        case _:
            return None
    return _shown(keys, number)


def _shown(keys: Keystore, number: int) -> dict[str, Any]:
    slot = keys.slot(number)
    return {
        "active": slot.active.fingerprint.hex(),
        "in_use": slot.in_use.fingerprint.hex(),
        "pending": slot.pending.fingerprint.hex() if slot.pending else "",
        "request": slot.pending.request if slot.pending else "",
        "why": slot.why,
    }


def _fingerprint(payload: Mapping[str, Any]) -> bytes:
    value = payload.get("fp")
    return value if isinstance(value, bytes) else b""


def _hex(request: Mapping[str, Any]) -> bytes:
    try:
        return bytes.fromhex(str(request.get("fingerprint", "")))
    except ValueError:
        return b""
