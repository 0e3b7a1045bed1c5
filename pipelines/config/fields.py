"""Types of configuration values with their checks, and the base of all sections.

Reference: pydantic, "Validators".
"""

from __future__ import annotations

import re
from datetime import date
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from market.core.clock import DURATION_FORM, TIME_RANGE, parse_duration, parse_time
from market.core.errors import ConfigError, DataError
from pipelines.scheduler.cron import parse_cron


def invalid(expected: str) -> PydanticCustomError:
    """The error of a validator: what was expected; the configuration adds key and value."""
    return PydanticCustomError("invalid", "{expected}", {"expected": expected})


def _filled(text: str) -> str:
    if not text.strip():
        raise invalid("a text that is not empty")
    return text


def _nonempty_path(value: object) -> object:
    if value == "":
        raise invalid("a path that is not empty")
    return value


def _time_as_text(value: object) -> object:
    return value.isoformat() if isinstance(value, date) else value


def _check_time(text: str) -> str:
    if text:
        try:
            parse_time(text)
        except DataError:
            raise invalid(
                f"empty or an ISO 8601 time like 2025-04-01T00:00:00Z, {TIME_RANGE}"
            ) from None
    return text


def readable_address(address: str) -> str:
    """Refuse an address whose password could be parsed as the host, or shown in errors."""
    scheme, _, rest = address.partition("://")
    user, _, host = rest.partition("?")[0].rpartition("@")
    server = r"(\[[0-9A-Fa-f:.]+\]|[^:/\[\]]*)(:[0-9]{1,5})?(/.*)?"
    if "@" in user or re.search(r"\s", address) or not re.fullmatch(server, host):
        raise invalid(
            f"an address like {scheme}://user:password@host:port/name without blanks; %-encode "
            "other characters than letters and digits in user and password"
        )
    return address


def _check_duration(text: str) -> str:
    if text:
        try:
            parse_duration(text)
        except DataError:
            raise invalid(f"empty or {DURATION_FORM}") from None
    return text


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def web_address(url: str) -> str:
    """Refuse what is not an address of a web server, without a user name, in ASCII."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:
        host, parts = "", urlsplit("")
    if not re.fullmatch(r"[!-~]+", url):
        raise invalid("an address in ASCII without blanks (%-encode others)")
    if not host or parts.scheme not in ("https", "http") or parts.username is not None:
        raise invalid("an address like https://example.com/hook without a user name")
    return url


def cron_line(example: str) -> AfterValidator:
    """The check of a cron line, which may be empty; its error shows the example."""

    def check(line: str) -> str:
        if line:
            try:
                parse_cron(line)
            except ConfigError as error:
                raise invalid(f"a cron line like '{example}': {error}") from None
        return line

    return AfterValidator(check)


def _check_command(command: tuple[str, ...]) -> tuple[str, ...]:
    if command and not command[0].strip():
        raise invalid("a list that starts with the program to run, or an empty one")
    if any("\0" in argument for argument in command):
        raise invalid("a list of texts without NUL, which no program accepts")
    return command


Count = Annotated[int, Field(strict=True, ge=1)]
Seed = Annotated[int, Field(strict=True, ge=0)]
Folds = Annotated[int, Field(strict=True, ge=0, le=20)]
Bytes = Annotated[int, Field(strict=True, ge=0, le=2**30)]
Text = Annotated[str, AfterValidator(_filled)]
Time = Annotated[str, BeforeValidator(_time_as_text), AfterValidator(_check_time)]
Duration = Annotated[str, AfterValidator(_check_duration)]
NonemptyPath = Annotated[Path, BeforeValidator(_nonempty_path)]
OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: None if value == "" else value)]
Command = Annotated[tuple[str, ...], AfterValidator(_check_command)]
"""A program and its arguments; empty: none."""


class Section(BaseModel):
    """Base of all sections: frozen, without unknown keys, with checked defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
