"""The section ``[ledger]``: its database, and the heads that are kept outside it.

As in `pipelines.config.sections`, a section is a frozen model that refuses invalid values.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from ledger.audit.signing import Verifier
from market.core.errors import LedgerError
from pipelines.config.fields import (
    Command,
    Count,
    OptionalPath,
    Section,
    cron_line,
    invalid,
    readable_address,
)

FILE_MARK = "{file}"
"""Placeholder in `heads_command` for the path of the heads file."""


class LedgerConfig(Section):
    """The database of decisions, and how its heads are kept outside it."""

    url: str = Field(default="sqlite:///var/ledger.db", repr=False)
    """Database of the ledger: sqlite or postgresql."""
    heads_dir: OptionalPath = None
    """Folder of heads files; empty: none. MARGINCAST_HEADS_KEY signs them."""
    heads_cron: Annotated[str, cron_line("0 * * * *")] = ""
    """When `margincast schedule` writes the next one; empty: never."""
    heads_command: Command = ()
    """Argument vector that copies `{file}` elsewhere; never a shell."""
    heads_attempts: Annotated[Count, Field(le=10)] = 3
    """Runs of a command that fails."""
    heads_timeout: Annotated[int, Field(strict=True, ge=1, le=3_600)] = 60
    """Longest time of one run, seconds."""
    heads_public_keys: tuple[str, ...] = ()
    """Keys trusted by `ledger verify`; several after a change of the key."""
    answers_days: Annotated[int, Field(strict=True, ge=0, le=3_650)] = 30
    """Days for which answers under idempotency keys are kept; 0: no limit."""

    @field_validator("url")
    @classmethod
    def _sqlite_or_postgres(cls, url: str) -> str:
        if not re.match(r"(sqlite|postgresql)(\+\w+)?://", url):
            raise invalid("sqlite:///FILE or postgresql+psycopg://…")
        return url if url.startswith("sqlite") else readable_address(url)

    @field_validator("heads_command")
    @classmethod
    def _names_the_file(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        if command and not any(FILE_MARK in argument for argument in command[1:]):
            raise invalid(f"a list with an argument that holds {FILE_MARK}, the file to copy")
        return command

    @field_validator("heads_public_keys")
    @classmethod
    def _ed25519(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        if keys:
            try:
                Verifier(keys)
            except LedgerError as error:
                raise invalid(f"a list of public keys: {error}") from None
        return keys

    @model_validator(mode="after")
    def _folder_of_scheduled_heads(self) -> LedgerConfig:
        if (self.heads_cron or self.heads_command) and self.heads_dir is None:
            raise invalid("a table with heads_dir where it has heads_cron or heads_command")
        return self
