"""The e-mail sink: one message by SMTP, with STARTTLS.

The address of the server is checked as that of a webhook is, certificate and name are verified,
and no header takes a line break from an event.

References: RFC 5321 (SMTP); RFC 3207 (STARTTLS); RFC 5322 (messages).
"""

from __future__ import annotations

import json
import logging
import smtplib
import socket
import ssl
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from typing import Any, Literal

from enforcement.delivery.addresses import Deadline, connect
from enforcement.delivery.signature import EVENT_ID
from enforcement.delivery.sinks import SHOWN, Message, Outcome
from market.core.redaction import redact

Encryption = Literal["starttls", "none"]

_LONGEST_SUBJECT = 150

_LOG = logging.getLogger("margincast.delivery")


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where e-mail is handed in.

    Attributes
    ----------
    host, port:
        The server.
    encryption:
        ``starttls`` refuses a server that does not offer it; ``none`` is for a host that is
        allowed by name.
    user, password:
        Of the login; an empty user: no login.
    """

    host: str
    port: int
    encryption: Encryption
    user: str
    password: str


class SmtpSink:
    """Sends each message to a fixed list of recipients.

    Parameters
    ----------
    name:
        Of the sink.
    server:
        Where it is handed in.
    sender, recipients:
        Addresses.
    allow_hosts:
        Hosts that may have a private or loopback address.
    timeout_seconds:
        Of each step of the conversation.
    """

    def __init__(
        self,
        name: str,
        server: MailServer,
        sender: str,
        recipients: Sequence[str],
        allow_hosts: Collection[str] = (),
        timeout_seconds: float = 10.0,
    ) -> None:
        self._name, self._server = name, server
        self._sender, self._recipients = sender, tuple(recipients)
        self._allow_hosts, self._timeout = frozenset(allow_hosts), timeout_seconds

    @property
    def name(self) -> str:
        """Name of the sink."""
        return self._name

    def send(self, message: Message) -> Outcome:
        """Hand in one e-mail; the server has it once it accepts it for one recipient or more."""
        server = self._server
        try:
            mail = self._compose(message)
            with _CheckedSmtp(server.host, server.port, self._allow_hosts, self._timeout) as talk:
                if server.encryption == "starttls":
                    talk.starttls(context=ssl.create_default_context())
                if server.user:
                    talk.login(server.user, server.password)
                refused = talk.send_message(mail, self._sender, self._recipients)
        except smtplib.SMTPResponseException as error:
            return Outcome(False, f"answer {error.smtp_code}", error.smtp_code >= 500)
        except (OSError, ValueError, smtplib.SMTPException) as error:
            detail = redact(f"{type(error).__name__} ({error})")
            if server.password:
                detail = detail.replace(server.password, "***")
            return Outcome(False, detail[:SHOWN])
        if not refused:
            return Outcome(True, "accepted")
        # Not sent again: the others would get it at every attempt.
        lost = f"{len(refused)} of {len(self._recipients)} recipients refused"
        _LOG.warning("sink %r: event %s: %s", self._name, message.event_id, lost)
        return Outcome(True, lost)

    def _compose(self, message: Message) -> EmailMessage:
        event: dict[str, Any] = json.loads(message.body)
        mail = EmailMessage(policy=SMTP_POLICY)
        mail["From"] = self._sender
        mail["To"] = ", ".join(self._recipients)
        words = (event.get("topic", "event"), event.get("event", ""), "of account")
        mail["Subject"] = _one_line(" ".join((*map(str, words), message.account_id)))
        mail["Message-ID"] = f"<{_one_line(message.event_id)}@margincast>"
        mail[EVENT_ID] = _one_line(message.event_id)
        mail.set_content("\n".join(_lines(event, "")))
        mail.add_attachment(
            message.body, maintype="application", subtype="json", filename="event.json"
        )
        return mail


class _CheckedSmtp(smtplib.SMTP):
    """A conversation over a connection to an address that was checked."""

    def __init__(self, host: str, port: int, allow_hosts: Collection[str], timeout: float) -> None:
        self._allowed = allow_hosts
        super().__init__(host, port, timeout=timeout)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        channel = connect(host, port, self._allowed, Deadline(timeout))
        channel.settimeout(timeout)
        return channel


def _one_line(text: str) -> str:
    """A text that fits into a header: printable, without line breaks, not too long."""
    shown = "".join(character if character.isprintable() else " " for character in text)
    return shown[:_LONGEST_SUBJECT]


def _lines(value: Any, path: str) -> Iterator[str]:
    """One line a field: its dotted name and its value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _lines(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _lines(inner, f"{path}[{number}]")
    else:
        shown = value if isinstance(value, str) else json.dumps(value)
        yield f"{path}: {_one_line(shown)}"
