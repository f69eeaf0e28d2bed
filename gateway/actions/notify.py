"""notify.email: a mail through the gateway's server."""

from contract.steps import AfterRestart, EmailParameters
from gateway.actions.base import (
    Action,
    Call,
    Reach,
    StepDone,
    StepOutcome,
    StepUnanswered,
    parsed,
    stamp_of,
)
from gateway.domain.call_keys import call_key
from gateway.errors import DeviceUnreachable


class NotifyEmail:
    """After a restart in its middle it may have been sent, and is not sent again."""

    after_restart = AfterRestart.ASK

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        asked = parsed(EmailParameters, call)
        if call.resumed:
            return StepUnanswered("interrupted", "the mail may have been sent")
        to = [asked.to] if isinstance(asked.to, str) else asked.to
        stamp = stamp_of(call)
        name = call_key(
            stamp["run"], stamp["task"], call.step, call.item, dict(call.parameters), call.key
        )
        try:
            await reach.mail.send(to, asked.subject, asked.text, f"<{name}@roundsman>")
        except DeviceUnreachable as error:
            return StepUnanswered("mail_failed", str(error))
        return StepDone({"message_id": f"<{name}@roundsman>"})


ACTIONS: dict[str, Action] = {"notify.email": NotifyEmail()}
