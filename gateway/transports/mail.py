"""Mail for steps, by SMTP; the libraries are loaded with the first mail."""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from gateway.errors import DeviceUnreachable, StepInvalid

TIMEOUT_S: Final = 30.0


@dataclass(frozen=True)
class SmtpServer:
    """`tls`: `starttls` after the greeting, `tls` from the first byte, or `none`."""

    host: str
    port: int
    sender: str
    username: str | None = None
    password: str | None = None
    tls: Literal["none", "starttls", "tls"] = "none"
    authority: str | None = None

    async def send(self, to: Sequence[str], subject: str, text: str, message_id: str) -> None:
        """Raises StepInvalid (`mail_failed`), or DeviceUnreachable when it may have been sent."""
        await asyncio.to_thread(self._send, list(to), subject, text, message_id)

    def _send(self, to: list[str], subject: str, text: str, message_id: str) -> None:
        import smtplib
        from email.message import EmailMessage
        from email.utils import formatdate

        message = EmailMessage()
        try:
            message["From"], message["To"] = self.sender, ", ".join(to)
            message["Subject"] = subject
            message["Date"], message["Message-ID"] = formatdate(), message_id
            message.set_content(text)
        except ValueError as error:  # a line break in a header: somebody tries to add their own
            raise StepInvalid(f"the mail cannot be written: {error}", "mail_failed") from error
        context = ssl.create_default_context(cafile=self.authority)
        try:
            if self.tls == "tls":
                server: smtplib.SMTP = smtplib.SMTP_SSL(
                    self.host, self.port, timeout=TIMEOUT_S, context=context
                )
            else:
                server = smtplib.SMTP(self.host, self.port, timeout=TIMEOUT_S)
            with server:
                if self.tls == "starttls":
                    server.starttls(context=context)
                if self.username is not None:
                    server.login(self.username, self.password or "")
                refused = server.send_message(message)
        except smtplib.SMTPServerDisconnected as error:
            raise DeviceUnreachable(f"{self.host}: {error}") from error
        except (smtplib.SMTPException, OSError) as error:
            raise StepInvalid(f"{self.host}: {error}", "mail_failed") from error
        if refused:
            raise StepInvalid(f"not taken for {', '.join(sorted(refused))}", "mail_failed")
