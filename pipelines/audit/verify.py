"""Verify the ledger."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enforcement.whole_check import checks_of, verify_whole
from ledger.audit.heads_series import read_kept_heads
from ledger.verify import Checks, Verification
from market.core.clock import format_time, parse_duration
from market.core.errors import ConfigError
from pipelines.config.config import Config


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """Options of ``ledger verify``.

    Attributes
    ----------
    heads:
        A heads file or a folder of them.
    public_keys:
        Trusted keys; none: those of the configuration.
    require_covered:
        Longest time without heads, e.g. ``25h``; None: any.
    archive:
        Folder of the archived segments.
    """

    heads: Path | None = None
    public_keys: tuple[str, ...] = ()
    require_covered: str | None = None
    archive: Path | None = None


def verify_ledger(config: Config, options: VerifyOptions) -> dict[str, Any]:
    """Check every chain; against heads stored elsewhere also for truncation and rewriting.

    The rows of the live book and of the outbox are compared with their chains.

    Raises
    ------
    ConfigError
        A time without heads is limited, and no heads are given.
    """
    if options.require_covered is not None and options.heads is None:
        raise ConfigError("--require-covered compares with heads; give them with --heads")
    keys = options.public_keys or config.ledger.heads_public_keys
    kept = read_kept_heads(options.heads, keys) if options.heads is not None else None
    longest = None if options.require_covered is None else parse_duration(options.require_covered)
    checks = ledger_checks(config)
    result = verify_whole(
        config.ledger.url,
        kept,
        dataclasses.replace(
            checks, longest_uncovered=longest, archive=options.archive, public_keys=keys
        ),
    )
    return verification_report(result)


def ledger_checks(config: Config) -> Checks:
    """The checks that the configuration defines."""
    return checks_of(config.ledger.answers_days)


def verification_report(result: Verification) -> dict[str, Any]:
    """A verification in plain form."""
    report: dict[str, Any] = {
        "intact": result.intact,
        "chains": {
            name: {"records": state.records, "head": state.head}
            for name, state in result.chains.items()
        },
        "problems": list(result.problems),
        "notes": list(result.notes),
    }
    covered = result.coverage
    if covered is not None:
        since = covered.uncovered_since
        report["heads"] = {
            "at": format_time(covered.heads_at),
            "files": covered.files,
            "signed": covered.signed,
            "uncovered_records": covered.uncovered,
            "uncovered_since": None if since is None else format_time(since),
        }
    return report
