"""The webhook between enforcement and the simulated venue of one ``margincast run``."""

from __future__ import annotations

import os
import secrets
import socket
from urllib.parse import urlsplit

from pipelines.config.config import Config
from pipelines.config.enforcement_section import WebhookConfig
from pipelines.venue.inbox import Inbox

SINK = "simulated-venue"
"""Name of the sink."""

SECRET = "MARGINCAST_SIMULATED_VENUE_SECRET"  # noqa: S105  the variable's name

_HOST = "127.0.0.1"


def with_venue(config: Config) -> Config:
    """The configuration with a webhook to a venue of this process and its children.

    The port is one that is free, and the secret is drawn and put into the environment, so nothing
    of it is in a file. Nothing is added where no market moves on or enforcement is off.
    """
    enforcement = config.enforcement
    named = {hook.name for hook in enforcement.webhooks}
    if config.simulate.speed == 0.0 or not enforcement.enabled or SINK in named:
        return config
    with socket.create_server((_HOST, 0)) as free:
        port = free.getsockname()[1]
    os.environ[SECRET] = secrets.token_hex(32)
    hook = WebhookConfig(name=SINK, url=f"http://{_HOST}:{port}/margin", secret_env=SECRET)
    update = {
        "webhooks": (*enforcement.webhooks, hook),
        "allow_hosts": (*enforcement.allow_hosts, _HOST),
    }
    return config.model_copy(update={"enforcement": enforcement.model_copy(update=update)})


def open_inbox(config: Config) -> Inbox:
    """The inbox of the venue's webhook; one that nobody knows of where there is no such webhook.

    Raises
    ------
    OSError
        Another process took the port meanwhile.
    """
    for hook in config.enforcement.webhooks:
        if hook.name == SINK:
            return Inbox(urlsplit(hook.url).port or 0, os.environb[SECRET.encode()])
    return Inbox(0, secrets.token_bytes(32))
