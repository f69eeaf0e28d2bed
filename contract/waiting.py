"""Why things wait: one code for each reason, with its sentence and what would end the wait."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class WaitKind:
    """One reason to wait. `{}` in the sentence is filled with the detail of the case at hand."""

    code: str
    sentence: str
    ends: str


_KINDS: Final = (
    WaitKind("start", "The run's start is not reached.", "The start time comes."),
    WaitKind("previous_run", "A run of the job is in flight.", "That run ends."),
    WaitKind("replacing", "It takes over from a run in flight.", "That run ends."),
    WaitKind("job_paused", "The job is paused.", "A person resumes the job."),
    WaitKind("turn", "It runs one task at a time, in order.", "The tasks before it end."),
    WaitKind("delay", "A slot rests after its last task.", "The delay passes."),
    WaitKind("per_bus", "Its line has as many tasks as allowed.", "One of them ends."),
    WaitKind("per_site", "Its site has as many tasks as allowed.", "One of them ends."),
    WaitKind("hold", "A hold is set on it.", "A person lifts the hold, or it runs out."),
    WaitKind("emergency_stop", "The emergency stop is set.", "A person releases it."),
    WaitKind("targets", "All its tasks have ended; more may join.", "It expires, or is cancelled."),
    WaitKind("creating", "The run's tasks are still being created.", "All tasks exist."),
    WaitKind("paused", "The run is paused.", "A person resumes the run."),
    WaitKind("cancelling", "The run is being cancelled.", "Tasks in flight end."),
    WaitKind("recovering", "The cloud was restored.", "Gateways say hello, or it is released."),
    WaitKind("concurrency", "As many tasks as allowed are in flight.", "One of them ends."),
    WaitKind("per_gateway", "Its gateway has as many tasks as allowed.", "One of them ends."),
    WaitKind("retry", "An attempt failed; the next one is due later.", "The retry delay passes."),
    WaitKind("gateway_offline", "Its gateway is offline.", "The gateway connects."),
    WaitKind("gateway_unknown", "The target has no gateway.", "A gateway reports the device."),
    WaitKind("gateway_stopped", "Its gateway was stopped.", "A person starts the gateway."),
    WaitKind("gateway_retired", "Its gateway was retired.", "A person enrolls it again."),
    WaitKind("gateway_too_old", "Its gateway lacks a step.", "The gateway is updated."),
    WaitKind("in_conflict", "Two processes use its gateway's name.", "One of them stops."),
    WaitKind("device_down", "It is tried again when its device is up.", "The device answers."),
    WaitKind("device_held", "Another task has the device.", "That task ends."),
    WaitKind("dispatch", "Nothing is in its way.", "The next dispatch, within a second."),
    WaitKind("acceptance", "Its gateway has not answered the offer.", "The gateway reports it."),
    WaitKind("opening", "Its gateway opens the link to the device.", "The device answers or not."),
    WaitKind("device_asleep", "The device is not reachable.", "The device answers."),
    WaitKind("bus_busy", "Another device has the line.", "The line is free."),
    WaitKind("line_quarantined", "Its line is gone, or chatters.", "The line works again."),
    WaitKind("timeouts", "Timeouts of another run still come to it.", "That run ends."),
    WaitKind("acknowledgment", "An acknowledgment is outstanding.", "Somebody acknowledges."),
)

WAITS: Final = {kind.code: kind for kind in _KINDS}
