"""``[enforcement]``: sinks are checked when the file is read, and no secret is repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from market.core.errors import ConfigError
from pipelines.config.config import Config, load_config

HOOK = '{name = "venue", url = "https://venue.example/hooks/S3CRET", secret_env = "VENUE_SECRET"}'
MAIL = (
    'smtp = {host = "mail.example", user = "margin", password_env = "MAIL_PASSWORD", '
    'sender = "margin@example.com", recipients = ["desk@example.com"]}'
)


def load(folder: Path, lines: str, monitoring: bool = True) -> Config:
    file = folder / "margincast.toml"
    file.write_text(
        f"[monitoring]\nenabled = {str(monitoring).lower()}\n[enforcement]\n{lines}\n", "utf-8"
    )
    return load_config(file)


def test_all_sinks_can_be_configured(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        f'enabled = true\nwebhooks = [{HOOK}]\n{MAIL}\ncommand = ["tee", "x"]\n'
        'command_events = ["instruction", "call.opened"]',
    ).enforcement
    assert config.enabled
    assert config.webhooks[0].secret_env == "VENUE_SECRET"  # noqa: S105  a name
    assert (config.smtp.port, config.smtp.encryption) == (587, "starttls")
    assert "S3CRET" not in repr(config)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('webhooks = [{name = "v"}]', "enforcement.webhooks[0].url is missing"),
        (f"webhooks = [{HOOK[:-1]}, colour = 1}}]", "enforcement.webhooks[0].colour is not a key"),
        (f"webhooks = [{HOOK}, {HOOK}]", "distinct names"),
        (f"webhooks = [{HOOK.replace('venue', 'smtp', 1)}]", "distinct names"),
        (f"webhooks = [{HOOK.replace('https', 'http')}]", "only of hosts in allow_hosts"),
        (f"webhooks = [{HOOK.replace('https', 'ftp')}]", "an address like https://"),
        (f"webhooks = [{HOOK.replace('//', '//u:S3CRET@')}]", "without a user name"),
        (f"webhooks = [{HOOK.replace('VENUE_SECRET', 'a-b')}]", "secret_env"),
        (f"webhooks = [{HOOK.replace('venue', 'A B', 1)}]", "webhooks[0].name"),
        (f'webhooks = [{HOOK[:-1]}, events = ["call.lost"]}}]', "call.opened"),
        ('command_events = ["orders"]', "instruction.filled"),
        (MAIL.replace("desk@example.com", "a@x.com\\nBcc: b@x.com"), "recipients[0]"),
        (MAIL.replace('"margin@example.com"', '""'), "enforcement.smtp.sender"),
        (MAIL.replace(', password_env = "MAIL_PASSWORD"', ""), "enforcement.smtp.password_env"),
        (MAIL.replace("user =", 'encryption = "none", user ='), "starttls"),
        (MAIL.replace("user =", "colour ="), "enforcement.smtp.colour is not a key"),
        ("attempts = 0", "enforcement.attempts"),
        ("timeout_seconds = 0", "enforcement.timeout_seconds"),
    ],
)
def test_what_cannot_work_is_refused_by_its_key_without_a_secret(
    tmp_path: Path, lines: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, lines)
    assert expected in str(refused.value)
    assert "S3CRET" not in str(refused.value)


def test_a_host_that_is_allowed_by_name_needs_no_tls(tmp_path: Path) -> None:
    hook = HOOK.replace("https", "http")
    found = load(tmp_path, f'allow_hosts = ["venue.example"]\nwebhooks = [{hook}]').enforcement
    assert found.webhooks[0].url.startswith("http://")


def test_calls_need_the_monitor(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"enforcement\.enabled is True.*\[monitoring\] enabled"):
        load(tmp_path, "enabled = true", monitoring=False)
