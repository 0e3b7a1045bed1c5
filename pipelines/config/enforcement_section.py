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
    """A receiver of signed webhooks.

    ``name`` is that of the sink, ``secret_env`` the environment variable with the secret that signs
    them, ``events`` what it gets: topics (``call``, ``instruction``, ``default_resources``) or
    single events (``call.opened``); empty: everything.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
    url: Annotated[str, Field(repr=False)]
    secret_env: EnvironmentName
    events: Events = ()

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        return web_address(url)


class SmtpConfig(Section):
    """E-mail to fixed recipients; an empty ``host``: none.

    The login is ``user`` with the password in the environment variable ``password_env``; without a
    user there is no login.
    """

    host: str = ""
    port: Annotated[int, Field(strict=True, ge=1, le=65_535)] = 587
    encryption: Literal["starttls", "none"] = "starttls"
    user: str = ""
    password_env: str = ""
    sender: MailAddress | Literal[""] = ""
    recipients: tuple[MailAddress, ...] = ()
    events: Events = ()

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
    """Calls, and the delivery of their events; see docs/enforcement.md.

    ``enabled`` needs ``[monitoring] enabled``. Sinks are ``webhooks``, ``command`` (an argument
    vector, JSON on its standard input) and ``smtp``. ``allow_hosts`` names hosts that may have a
    private or loopback address, and may be addressed without TLS. After ``attempts`` failures an
    event is a dead letter; pauses begin at ``retry_seconds``, double, and end at
    ``retry_cap_seconds``; an attempt takes at most ``timeout_seconds``. ``concurrency`` attempts to
    one sink run side by side. Rows of delivered events are deleted after ``keep_days``.
    """

    enabled: Annotated[bool, Field(strict=True)] = False
    allow_hosts: tuple[Text, ...] = ()
    webhooks: tuple[WebhookConfig, ...] = ()
    command: Command = ()
    command_events: Events = ()
    smtp: SmtpConfig = SmtpConfig()
    attempts: Annotated[Count, Field(le=1_000)] = 20
    timeout_seconds: Annotated[float, Field(ge=0.1, le=60.0)] = 10.0
    retry_seconds: Seconds = 1.0
    retry_cap_seconds: Annotated[float, Field(ge=1.0, le=86_400.0)] = 300.0
    concurrency: Annotated[Count, Field(le=64)] = 4
    keep_days: Annotated[float, Field(ge=0.01, le=3_650.0)] = 30.0

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
