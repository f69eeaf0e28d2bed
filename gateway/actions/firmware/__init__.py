"""The verbs of `firmware`: on one device, through its bootloader, and on several together."""

from typing import Final

from gateway.actions.base import Action
from gateway.actions.firmware.recovery import FirmwareRecover
from gateway.actions.firmware.together import (
    ConfirmTogether,
    RollbackTogether,
    StageTogether,
    SwitchTogether,
)
from gateway.actions.firmware.verbs import (
    FirmwareConfirm,
    FirmwareRollback,
    FirmwareTest,
    FirmwareUpload,
    FirmwareVerify,
)

ACTIONS: Final[dict[str, Action]] = {
    "firmware.upload": FirmwareUpload(),
    "firmware.test": FirmwareTest(),
    "firmware.verify": FirmwareVerify(),
    "firmware.confirm": FirmwareConfirm(),
    "firmware.rollback": FirmwareRollback(),
    "firmware.recover": FirmwareRecover(),
    "firmware.stage_together": StageTogether(),
    "firmware.switch_together": SwitchTogether(),
    "firmware.confirm_together": ConfirmTogether(),
    "firmware.rollback_together": RollbackTogether(),
}
