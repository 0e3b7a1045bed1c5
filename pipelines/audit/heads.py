"""Heads on schedule: write the next heads file, sign it, and have a command copy it outside.

The copy protects against the administrator of the database, so it must go to a place where that
person cannot write: a bucket of another account, a mailbox, a printer.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

from ledger.audit.heads import Heads
from ledger.audit.heads_series import write_next_heads
from ledger.audit.signing import KEY_VARIABLE, Signer
from market.core.errors import ConfigError, LedgerError
from pipelines.cli.settings import warn
from pipelines.config.config import Config
from pipelines.config.ledger_section import FILE_MARK, LedgerConfig
from serving.telemetry.metrics.stored_facts import HEADS_COPIED

_PRIVATE_PREFIX = "MARGINCAST_"
_PAUSE_SECONDS = 1.0
_SHOWN = 200


def write_heads_file(config: Config, out: Path, previous: Path | None = None) -> dict[str, Any]:
    """Write the heads of all chains as the next file of a series, signed where a key is set."""
    path, heads = write_next_heads(
        config.ledger.url, out, signer("the heads are"), previous, config.ledger.heads_public_keys
    )
    return _report(path, heads)


def publish_heads(config: Config) -> dict[str, Any]:
    """Write the next heads file into ``[ledger] heads_dir`` and run ``heads_command`` with it.

    Raises
    ------
    ConfigError
        No folder is configured.
    AlteredError
        The ledger does not contain the previous heads, see `write_next_heads`.
    LedgerError
        The heads cannot be read or written, or every run of the command failed: the file is there,
        and the next run copies only its own file, so copy this one by hand.
    """
    settings = config.ledger
    if settings.heads_dir is None:
        raise ConfigError(
            "ledger.heads_dir is empty; give it a folder, or write one file with --out FILE"
        )
    settings.heads_dir.mkdir(parents=True, exist_ok=True)
    report = write_heads_file(config, settings.heads_dir)
    if settings.heads_command:
        report["copy"] = _copy(settings, report["file"])
        (settings.heads_dir / HEADS_COPIED).write_bytes(b"")
    return {"verdict": "written", "reasons": [], **report}


def _report(path: Path, heads: Heads) -> dict[str, Any]:
    return {"file": str(path), "signed": "signature" in heads, **heads}


def signer(document: str) -> Signer | None:
    """The signer of the key in the environment; None with a warning if there is none."""
    found = Signer.from_environment()
    if found is None:
        warn(
            f"{document} not signed, {KEY_VARIABLE} holds no key; `margincast ledger keygen` makes "
            "one"
        )
    return found


def _copy(settings: LedgerConfig, file: str) -> dict[str, Any]:
    command = [part.replace(FILE_MARK, file) for part in settings.heads_command]
    detail = ""
    for attempt in range(1, settings.heads_attempts + 1):
        detail = _run(command, settings.heads_timeout)
        if detail == "exit 0":
            return {"attempts": attempt, "detail": detail}
        warn(f"copy of {file}, attempt {attempt}: {detail}")
        if attempt < settings.heads_attempts:
            time.sleep(_PAUSE_SECONDS * 2 ** (attempt - 1))
    raise LedgerError(
        f"heads file {file!r} is written, but ledger.heads_command failed "
        f"{settings.heads_attempts} times ({detail}); repair it and copy the file by hand"
    )


def _run(command: list[str], timeout: int) -> str:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_PRIVATE_PREFIX)  # the private key in particular
    }
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no end within {timeout} s"
    except OSError as error:
        return f"cannot be started ({error.strerror})"
    output = done.stderr.decode(errors="replace").strip()[-_SHOWN:]
    return f"exit {done.returncode}" + (f": {output}" if output and done.returncode else "")
