"""Why things fail: codes that travel between the programs, each with its sentence and its help.

A code names whose fault it was. Unknown codes are kept as text: the other side may be newer.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class FailureKind:
    """One failure code: what it means, and what a person can do about it by hand."""

    code: str
    sentence: str
    help: str


_KINDS: Final = (
    # The device
    FailureKind(
        "device_refused",
        "The device answered, and said no.",
        "Read the device's own code in the text; correct the command or the image and retry.",
    ),
    FailureKind(
        "image_refused",
        "The device refused the firmware image.",
        "Check that the image is built for this hardware and fits its slot.",
    ),
    FailureKind(
        "rolled_back",
        "The device started the new image and came back with the old one.",
        "The image does not run on this device: read its boot log before you try again.",
    ),
    FailureKind(
        "version_mismatch",
        "The version read back from the device is not the one the job asked for.",
        "Compare the job's version with the image; look for a device that reports a wrong version.",
    ),
    FailureKind(
        "certificate_refused",
        "The device refused the new certificate.",
        "Read the device's own words in the text; it goes on with the certificate it had.",
    ),
    FailureKind(
        "certificate_not_used",
        "The device does not use the new certificate.",
        "It went back to the one it had: see whether its server trusts the CA (`roundsman ca show`)"
        " and what its log says of the connection.",
    ),
    FailureKind(
        "delegate_failed",
        "The device ran the job document it was handed, and says that it failed.",
        "Read its status details in the step's result, and the device's own log.",
    ),
    FailureKind(
        "delegate_rejected",
        "The device rejected the job document it was handed.",
        "Compare the document with what the device's client takes: it may know no such operation.",
    ),
    FailureKind(
        "delegate_timed_out",
        "The device began the job document, and was not done in time.",
        "Give the step a longer `timeout`, or see why the device stopped saying how far it is.",
    ),
    # The line to the device
    FailureKind(
        "device_unreachable",
        "The device did not answer.",
        "Check power, cable and port; the gateway's page shows when it was last heard.",
    ),
    FailureKind(
        "reply_garbled",
        "Replies arrived damaged and could not be read.",
        "Check the cable, the baud rate and what else talks on the line.",
    ),
    FailureKind(
        "unknown_device",
        "The gateway has no device of that name.",
        "Add the device to the gateway's configuration, or correct the job's target.",
    ),
    # The job
    FailureKind(
        "step_invalid",
        "The step cannot be performed as it is written.",
        "Correct the job document at the place the text names, and start a new run.",
    ),
    FailureKind(
        "template_failed",
        "A {{ }} expression could not be computed.",
        "The text names the expression and the missing value; correct it or the run's context.",
    ),
    FailureKind(
        "expectation_failed",
        "The step's `expect` was not true.",
        "The step's result shows what the device said instead.",
    ),
    FailureKind(
        "verb_unknown",
        "The gateway does not know this step.",
        "Update the gateway, or take the step out of the job.",
    ),
    FailureKind(
        "verb_unsupported",
        "The device's driver cannot perform this step.",
        "Use a step its driver offers, or another driver.",
    ),
    FailureKind(
        "image_invalid",
        "The artifact is not a firmware image that this device could start.",
        "Build the image again and push it as a new artifact.",
    ),
    FailureKind(
        "image_too_large",
        "The image does not fit the device's slot.",
        "Build a smaller image, or target hardware with a larger slot.",
    ),
    # Time
    FailureKind(
        "step_timed_out",
        "The step did not finish within its timeout.",
        "Give the step more time, or see in its log where it waited.",
    ),
    FailureKind(
        "task_timed_out",
        "The task did not finish within `iteration.timeout`.",
        "Give the task more time; the timeline shows which step took it.",
    ),
    FailureKind(
        "never_acknowledged",
        "The steps were done, but nobody acknowledged the task in time.",
        "See who should have acknowledged, and whether the reply matched.",
    ),
    FailureKind(
        "expired",
        "The run expired before the task ended.",
        "Start a new run, or retry the failed tasks, with a later `expires_at`.",
    ),
    FailureKind(
        "acknowledged_as_failed",
        "The task was acknowledged as a failure.",
        "The text is what whoever acknowledged it had to say.",
    ),
    # What steps ask of others
    FailureKind(
        "call_refused",
        "The cloud refused what the step asked of it.",
        "The text says why; correct the job, or what is in the way, and retry.",
    ),
    FailureKind(
        "csr_refused",
        "The CA refused to sign the device's request.",
        "The text says why; a request may name no other device than the one that makes it.",
    ),
    FailureKind(
        "cloud_unreachable",
        "The cloud did not answer what the step asked of it.",
        "Check the gateway's uplink, or give the step more time.",
    ),
    FailureKind(
        "http_failed",
        "The web service could not be asked, or answered with an error.",
        "The step's result holds its answer; check address, credentials and the service.",
    ),
    FailureKind(
        "address_refused",
        "The gateway is not allowed to connect to this address.",
        "Add the network to `http.allow` of the gateway if steps may reach it.",
    ),
    FailureKind(
        "broker_unavailable",
        "The gateway has no local broker, or it does not answer.",
        "Configure `local_broker` on the gateway, or look why it is down.",
    ),
    FailureKind(
        "mail_failed",
        "The mail could not be handed to the server.",
        "Check `smtp` in the gateway's configuration, and the addresses.",
    ),
    FailureKind(
        "sms_failed",
        "A text message could not be handed to the service.",
        "Check `sms` in the gateway's configuration, the numbers, and what the service answers.",
    ),
    FailureKind(
        "database_unknown",
        "The gateway has no database of that name.",
        "Add it to `databases` in the gateway's configuration, or correct the step.",
    ),
    FailureKind(
        "sql_failed",
        "The database could not be asked, or refused the statement.",
        "The text is what the database says; a read-only database takes nothing that writes.",
    ),
    # The gateway and the cloud
    FailureKind(
        "gateway_lost",
        "The gateway came back without its journal, was replaced or was retired.",
        "The device may have been changed: the next attempt reads its state first.",
    ),
    FailureKind(
        "gateway_offline",
        "The gateway was silent for longer than the job waits, and the job says `offline: fail`.",
        "Bring the gateway back and retry the failed tasks, or let the job wait for it.",
    ),
    FailureKind(
        "gateway_silent",
        "The gateway has not reported within the deadline.",
        "Check the gateway's power and uplink; its late result will still be kept.",
    ),
    FailureKind(
        "interrupted",
        "The gateway stopped in the middle of a step, and cannot tell whether it happened.",
        "Read the device's state before you retry by hand; the retry policy decides otherwise.",
    ),
    FailureKind(
        "offer_refused",
        "The gateway could not take the task as it was offered.",
        "Read the text; update the gateway, or send its log to its maintainers.",
    ),
    FailureKind(
        "crashed_gateway",
        "This step stopped the gateway's process three times.",
        "Send the gateway's log to its maintainers; other devices are not affected.",
    ),
    FailureKind(
        "artifact_unavailable",
        "The gateway could not fetch the artifact.",
        "Check that the artifact exists and that the gateway can reach the cloud's address.",
    ),
    FailureKind(
        "digest_mismatch",
        "What was fetched is not the artifact that the job names.",
        "Something between cloud and gateway changed it: push it again and look for a bad proxy.",
    ),
    FailureKind(
        "storage_full",
        "The gateway's disk is full.",
        "Free space on the gateway; results are kept and sent on.",
    ),
    FailureKind(
        "target_deleted",
        "The target was deleted before its turn.",
        "Nothing to do, or add it again and start a new run.",
    ),
    FailureKind(
        "target_failed",
        "The task gave an error as the result of this target.",
        "The text is what stands in the target's place; the task's other targets have their own.",
    ),
    FailureKind(
        "batch_too_large",
        "The documents of the task's targets do not fit one message.",
        "Give `iteration.batch` a smaller number, and start a new run.",
    ),
    FailureKind(
        "unconfirmed",
        "The cancel was never confirmed by the gateway.",
        "The device stays held until its gateway speaks or a person frees it.",
    ),
)

FAILURES: Final = {kind.code: kind for kind in _KINDS}


@dataclass(frozen=True)
class RefusalKind:
    """Why one item of a report was not stored; it stays in the gateway's journal and is shown."""

    code: str
    sentence: str


_REFUSALS: Final = (
    RefusalKind("undecodable", "The item could not be read; its bytes are kept."),
    RefusalKind("unknown_task", "The cloud has never heard of this task; it is kept as orphaned."),
    RefusalKind("foreign_task", "The task was not offered to this gateway and journal."),
    RefusalKind("illegal_move", "The life-cycle has no move to the status reported."),
    RefusalKind("unknown_attempt", "The attempt is newer than any the cloud has offered."),
)

REFUSALS: Final = {kind.code: kind for kind in _REFUSALS}
