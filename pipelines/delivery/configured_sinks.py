"""The sinks of ``[enforcement]``, and the worker that delivers to them."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from enforcement.delivery.command import CommandSink
from enforcement.delivery.retries import RetryPolicy
from enforcement.delivery.sinks import Sink
from enforcement.delivery.smtp import MailServer, SmtpSink
from enforcement.delivery.topics import Subscription
from enforcement.delivery.webhook import WebhookSink
from enforcement.delivery.worker import DeliveryWorker
from ledger.store import Ledger
from market.core.errors import ConfigError
from pipelines.config.config import Config
from pipelines.config.enforcement_section import COMMAND, MAIL, EnforcementConfig

LEAST_SECRET_BYTES = 16
"""A secret that is shorter can be guessed from one signature."""


def subscriptions_of(settings: EnforcementConfig) -> list[Subscription]:
    """Names of the sinks, and which events each of them gets."""
    found = [Subscription(hook.name, frozenset(hook.events)) for hook in settings.webhooks]
    if settings.command:
        found.append(Subscription(COMMAND, frozenset(settings.command_events)))
    if settings.smtp.host:
        found.append(Subscription(MAIL, frozenset(settings.smtp.events)))
    return found


def sinks_of(settings: EnforcementConfig) -> list[Sink]:
    """The sinks, with their secrets from the environment.

    Raises
    ------
    ConfigError
        A variable with a secret is not set, or the secret is too short.
    """
    allowed, seconds = settings.allow_hosts, settings.timeout_seconds
    sinks: list[Sink] = [
        WebhookSink(hook.name, hook.url, _secret(hook.secret_env, hook.name), allowed, seconds)
        for hook in settings.webhooks
    ]
    if settings.command:
        sinks.append(CommandSink(COMMAND, settings.command, seconds))
    mail = settings.smtp
    if mail.host:
        password = os.environ.get(mail.password_env, "") if mail.user else ""
        if mail.user and not password:
            raise ConfigError(
                f"environment variable {mail.password_env} is not set; enforcement.smtp names it "
                "for the password of its user"
            )
        server = MailServer(mail.host, mail.port, mail.encryption, mail.user, password)
        sinks.append(SmtpSink(MAIL, server, mail.sender, mail.recipients, allowed, seconds))
    return sinks


def delivering(
    config: Config, ledger: Ledger, is_leader: Callable[[], bool]
) -> AbstractContextManager[object]:
    """Deliver the outbox of a ledger while the block runs; nothing without sinks.

    Parameters
    ----------
    config:
        With the sinks; the seed of the accounts is that of the pauses too.
    ledger:
        With the outbox.
    is_leader:
        Whether this process writes the outbox now.

    Raises
    ------
    ConfigError
        As `sinks_of`.
    """
    settings = config.enforcement
    sinks = sinks_of(settings) if settings.enabled else []
    if not sinks:
        return nullcontext()
    policy = RetryPolicy(
        settings.attempts,
        settings.retry_seconds,
        settings.retry_cap_seconds,
        seed=config.accounts.seed,
    )
    return DeliveryWorker(
        ledger, sinks, policy, is_leader, settings.concurrency, settings.keep_days
    )


def _secret(variable: str, sink: str) -> bytes:
    secret = os.environb.get(variable.encode(), b"")
    if len(secret) < LEAST_SECRET_BYTES:
        found = f"has {len(secret)} bytes" if secret else "is not set"
        raise ConfigError(
            f"environment variable {variable} {found}; give it the secret that signs webhook "
            f"{sink!r}, {LEAST_SECRET_BYTES} bytes or more"
        )
    return secret
