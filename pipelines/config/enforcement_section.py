"""The section ``[enforcement]``: whether calls are made, and where their events are sent.

As in `pipelines.config.sections`, a section is a frozen model that refuses invalid values. Secrets
are never part of it: it names the environment variables that have them.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from enforcement.delivery.topics import known_events
from pipelines.config.fields import Command, Count, Section, Text, invalid, web_address

COMMAND, MAIL = "command", "smtp"
"""Names of the sinks that are not webhooks."""


def _known_event(name: str) -> str:
    if name not in known_events():
        raise invalid(f"one of {', '.join(known_events())}")
    return name


Events = tuple[Annotated[str, AfterValidator(_known_event)], ...]
EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
MailAddress = Annotated[str, Field(pattern=r"^[!-~]+@[A-Za-z0-9.-]+$", max_length=254)]
Seconds = Annotated[float, Field(gt=0.0, le=300.0)]


class WebhookConfig(Section):
    """A receiver of signed webhooks."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
    """Name of the sink."""
    url: Annotated[str, Field(repr=False)]
    """Address that events are posted to."""
    secret_env: EnvironmentName
    """Environment variable with the secret that signs them."""
    events: Events = ()
    """Topics (`call`, `instruction`, `default_resources`) or single events (`call.opened`); empty:
    everything."""

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        return web_address(url)


class SmtpConfig(Section):
    """E-mail to fixed recipients."""

    host: str = ""
    """Mail server; empty: no e-mail."""
    port: Annotated[int, Field(strict=True, ge=1, le=65_535)] = 587
    """Port of the mail server."""
    encryption: Literal["starttls", "none"] = "starttls"
    """`none` only for a host in allow_hosts and without a user."""
    user: str = ""
    """User of the login; empty: no login."""
    password_env: str = ""
    """Environment variable with the password."""
    sender: MailAddress | Literal[""] = ""
    """Address of the sender."""
    recipients: tuple[MailAddress, ...] = ()
    """Addresses of the recipients."""
    events: Events = ()
    """Topics or single events; empty: everything."""

    @field_validator("password_env")
    @classmethod
    def _password(cls, name: str, info: ValidationInfo) -> str:
        if bool(name) != bool(info.data.get("user")):
            raise invalid("the name of a variable where user is given, and else left out")
        return name

    @field_validator("sender", "recipients")
    @classmethod
    def _given(cls, value: str | tuple[str, ...], info: ValidationInfo) -> object:
        if bool(value) != bool(info.data.get("host")):
            raise invalid("given where host is, and else left out")
        return value


class EnforcementConfig(Section):
    """Calls, and the delivery of their events; see docs/enforcement.md."""

    enabled: Annotated[bool, Field(strict=True)] = False
    """Open margin calls and follow them; needs `[monitoring] enabled`."""
    allow_hosts: tuple[Text, ...] = ()
    """Hosts that may have a private or loopback address, and may be addressed without TLS."""
    webhooks: tuple[WebhookConfig, ...] = ()
    """Receivers of signed webhooks."""
    command: Command = ()
    """Argument vector that gets JSON on its standard input; never a shell."""
    command_events: Events = ()
    """Topics like `call`, or events like `call.opened`, for the command; empty: every event."""
    smtp: SmtpConfig = SmtpConfig()
    attempts: Annotated[Count, Field(le=1_000)] = 20
    """Failures after which an event is a dead letter."""
    timeout_seconds: Annotated[float, Field(ge=0.1, le=60.0)] = 10.0
    """Longest time of one attempt."""
    retry_seconds: Seconds = 1.0
    """Longest pause after a failure, doubled with each further one."""
    retry_cap_seconds: Annotated[float, Field(ge=1.0, le=86_400.0)] = 300.0
    """Longest pause of all."""
    concurrency: Annotated[Count, Field(le=64)] = 4
    """Attempts to one sink side by side."""
    keep_days: Annotated[float, Field(ge=0.01, le=3_650.0)] = 30.0
    """Rows of delivered events are deleted after this time."""

    @field_validator("webhooks")
    @classmethod
    def _check_webhooks(
        cls, webhooks: tuple[WebhookConfig, ...], info: ValidationInfo
    ) -> tuple[WebhookConfig, ...]:
        counts = Counter([COMMAND, MAIL, *(webhook.name for webhook in webhooks)])
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise invalid(f"sinks of distinct names other than {COMMAND} and {MAIL}")
        for webhook in webhooks:
            parts = urlsplit(webhook.url)
            if parts.scheme == "http" and parts.hostname not in info.data.get("allow_hosts", ()):
                raise invalid("addresses with https; with http only of hosts in allow_hosts")
        return webhooks

    @field_validator("smtp")
    @classmethod
    def _check_mail(cls, smtp: SmtpConfig, info: ValidationInfo) -> SmtpConfig:
        plain = smtp.host and smtp.encryption == "none"
        if plain and (smtp.user or smtp.host not in info.data.get("allow_hosts", ())):
            raise invalid('encryption "starttls"; "none" is for a host in allow_hosts without user')
        return smtp
