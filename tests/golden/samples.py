"""One message of each kind, with every field used at least once. Extend them; never change one."""

from typing import Final

from contract.lifecycle import StepStatus, TaskStatus
from contract.messages import (
    AnyMessage,
    ArtifactRef,
    Call,
    Cancel,
    CancelItem,
    DeviceState,
    Failure,
    HeldProfile,
    HeldProfiles,
    Hello,
    InventoryDevice,
    JobBody,
    Limits,
    LogLine,
    Offer,
    OfferedAcknowledge,
    OfferedRetry,
    OfferedStep,
    OfferedTask,
    Presence,
    Receipt,
    ReceiptItem,
    Reply,
    Report,
    StepSnapshot,
    StreamReceipt,
    TaskMark,
    TaskRef,
    TaskSnapshot,
    WantedProfile,
    WantedProfiles,
    Welcome,
)
from contract.topics import Kind

RUN: Final = "0190c3a0-0000-7000-8000-000000000000"
TASK: Final = f"{RUN}-7"
SHA: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

SAMPLES: Final[dict[Kind, AnyMessage]] = {
    Kind.PRESENCE: Presence(online=True, instance="i-1", session="s-1", counter=3),
    Kind.HELLO: Hello(
        nonce="n-1",
        page=1,
        pages=2,
        journal="j-1",
        instance="i-1",
        digest="00",
        version="0.1.0",
        verbs=["device.command", "firmware.upload"],
        time=1_700_000_000_000,
        devices=[
            InventoryDevice(
                id="pump-7",
                type="pump",
                name="Pumpe Süd",
                driver="smp",
                address="/dev/serial/by-id/usb-1",
                bus="serial:/dev/serial/by-id/usb-1",
                tags={"site": "berlin"},
                attributes={"buf_size": 384},
                link="up",
            )
        ],
        tasks=[TaskMark(task=TASK, attempt=2, revision=9, status=TaskStatus.RUNNING)],
        profiles=[HeldProfile(name="pump_v2", sha256=SHA, size=512)],
        proof="5e88",
        mark="m-2",
        last_mark="m-1",
    ),
    Kind.REPORT: Report(
        session="s-1",
        counter=12,
        message=5,
        tasks=[
            TaskSnapshot(
                task=TASK,
                attempt=2,
                revision=9,
                status=TaskStatus.FAILED,
                begun=True,
                started_at=1_700_000_000_000,
                ended_at=1_700_000_060_000,
                elapsed=60_000,
                progress=50,
                current_step="upload",
                waiting_for="bus_busy",
                steps=[
                    StepSnapshot(
                        id="upload",
                        uses="firmware.upload",
                        status=StepStatus.FAILED,
                        started_at=1_700_000_000_001,
                        completed_at=1_700_000_060_000,
                        progress=50.5,
                        tries=3,
                        failure=Failure(code="image_refused", text="rc 30", step="upload"),
                        result={"offset": 4096},
                        truncated=True,
                        note="4 of 8 KiB",
                        input={"artifact": "pump-2.4.1", "password": "***"},
                        input_truncated=True,
                    ),
                    StepSnapshot(
                        id="confirm",
                        uses="firmware.confirm",
                        status=StepStatus.SKIPPED,
                        skipped_at=1_700_000_060_000,
                    ),
                ],
                failure=Failure(code="image_refused", text="rc 30", step="upload"),
                result={"version": "2.4.0"},
                accumulator=3,
                from_attempt=1,
                truncated=True,
            )
        ],
        stream="backlog",
        logs=[
            LogLine(
                number=4,
                at=1_700_000_000_002,
                level="WARNING",
                text="chunk sent again",
                task=TASK,
                attempt=2,
                device="pump-7",
                data={"offset": 4096},
            )
        ],
        states=[
            DeviceState(
                number=1,
                order=4,
                at=1_700_000_000_003,
                device="pump-7",
                link="up",
                values={"bar": 2.5},
            )
        ],
        time=1_700_000_000_009,
        dropped={"states": 17},
        digest="00",
        health={"disk_free": 1_000_000},
        profiles=HeldProfiles(
            revision=4,
            profiles=[
                HeldProfile(
                    name="pump_v2", sha256=SHA, size=512, refused="0" * 64, problem="not YAML"
                )
            ],
        ),
    ),
    Kind.CALL: Call(
        session="s-1",
        counter=13,
        key="k-1",
        task=TASK,
        attempt=2,
        step="tag",
        verb="fleet.tag",
        body={"tags": {"updated": True}},
    ),
    Kind.WELCOME: Welcome(
        session="s-1",
        counter=1,
        nonce="n-1",
        journal="j-1",
        page=1,
        pages=2,
        time=1_700_000_000_000,
        forget=[TaskRef(task=f"{RUN}-1", attempt=1)],
        report=[TaskRef(task=f"{RUN}-2", attempt=1)],
        cancel=[CancelItem(task=f"{RUN}-3", attempt=1, mode="force", reason="terminated")],
        limits=Limits(heartbeat=5_000, max_unreceipted=4),
        conflict=True,
        hello_within=30_000,
        profiles=WantedProfiles(
            revision=4, profiles=[WantedProfile(name="pump_v2", sha256=SHA, size=512)]
        ),
        refused="token_void",
    ),
    Kind.OFFER: Offer(
        session="s-1",
        counter=2,
        bodies=[
            JobBody(
                run=RUN,
                hash="h-1",
                job="pump-firmware",
                name="Pumpen-Firmware",
                type="firmware",
                steps=[
                    OfferedStep.model_validate(
                        {
                            "id": "upload",
                            "uses": "firmware.upload",
                            "with": {"artifact": "{{ ctx.image }}"},
                            "when": "ctx.go",
                            "expect": "result.sent",
                            "timeout": 600_000,
                            "retry": OfferedRetry(attempts=3, delay=5_000, backoff=2.0),
                            "always": True,
                            "on_failure": True,
                            "key": "once-{{ run.id }}",
                        }
                    )
                ],
                context={"image": "pump-2.4.1", "go": True},
                artifacts={"pump-2.4.1": ArtifactRef(sha256=SHA, size=60_000)},
                keep_response=False,
                acknowledge=OfferedAcknowledge(topic="doors/+", match="payload.ok"),
            )
        ],
        tasks=[
            OfferedTask(
                task=TASK,
                attempt=2,
                run=RUN,
                body="h-1",
                ordinal=7,
                tries=1,
                device="pump-7",
                target={"id": "pump-7", "tags": {"site": "berlin"}},
                parameters={"level": 3},
                accumulator=2,
                timeout=900_000,
                start_by=60_000,
                priority=2,
                acknowledgment_token="ack_2_00",
                targets=[{"id": "pump-8", "deleted": True}],
                run_facts={"started_at": 1_767_225_600_000, "counts": {"succeeded": 3}},
            )
        ],
    ),
    Kind.CANCEL: Cancel(
        session="s-1",
        counter=3,
        items=[CancelItem(task=TASK, attempt=2, mode="recall", reason="paused")],
    ),
    Kind.RECEIPT: Receipt(
        session="s-1",
        counter=4,
        message=5,
        items=[
            ReceiptItem(
                task=TASK,
                attempt=2,
                revision=9,
                outcome="refused",
                code="foreign_task",
                text="not offered to this gateway",
            )
        ],
        streams=[StreamReceipt(stream="backlog", kind="logs", number=4)],
    ),
    Kind.REPLY: Reply(
        session="s-1",
        counter=5,
        key="k-1",
        result={"ok": True},
        failure=Failure(code="verb_unknown", text="newer than this cloud"),
    ),
}
