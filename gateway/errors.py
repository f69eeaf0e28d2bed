"""What can go wrong at the edge, named for what the caller does next.

GatewayError
├── DeviceUnreachable     the line: try again when the link is back
│   ├── PortUnavailable   the port: it cannot be opened, or is gone
│   └── LineQuarantined   the arbiter: the line is so bad that it is left alone for a while
├── ReplyGarbled          the line: count it; the step may or may not have happened
├── ArtifactUnavailable   the cloud's store: a code of `contract.failures`, and whether to try again
├── CloudUnreachable      the cloud: keep working, send later
├── CloudRefused          the operator: the broker or the cloud does not let us in
├── StorageFull           the disk takes nothing now: wait; job results are never dropped
│   ├── StorageFailed     as a full one, but it is read-only, or broken: a person must look
│   └── JournalDamaged    the journal's file: stop; a person decides what becomes of it
├── CallRefused           the cloud: it will not do what a step asks; a code, and perhaps a result
├── StepInvalid           us, or the job: the step cannot be performed as it is written
└── SettingsInvalid       the operator: stop at start; say file, line, key and nearest known key
"""

from pydantic import JsonValue


class GatewayError(Exception):
    """The root; never raised itself."""


class DeviceUnreachable(GatewayError):
    pass


class PortUnavailable(DeviceUnreachable):
    pass


class LineQuarantined(DeviceUnreachable):
    pass


class ReplyGarbled(GatewayError):
    pass


class ArtifactUnavailable(GatewayError):
    """`code` is `artifact_unavailable` or `digest_mismatch`."""

    def __init__(self, text: str, code: str = "artifact_unavailable") -> None:
        super().__init__(text)
        self.code = code


class CloudUnreachable(GatewayError):
    pass


class CloudRefused(GatewayError):
    pass


class StorageFull(GatewayError):
    pass


class StorageFailed(StorageFull):
    pass


class JournalDamaged(StorageFull):
    pass


class CallRefused(GatewayError):
    """`code` is one of `contract.failures.FAILURES`."""

    def __init__(self, text: str, code: str = "call_refused", result: JsonValue = None) -> None:
        super().__init__(text)
        self.code = code
        self.result = result


class StepInvalid(GatewayError):
    """`code` is one of `contract.failures.FAILURES`."""

    def __init__(self, text: str, code: str = "step_invalid") -> None:
        super().__init__(text)
        self.code = code


class SettingsInvalid(GatewayError):
    pass
