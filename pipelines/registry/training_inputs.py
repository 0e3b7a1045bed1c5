"""Whether a training would only repeat the newest one: the digest of all that goes into it.

A training on the same inputs gives the same model, the same figures and the same verdict, so
``margincast run`` leaves it out. The digest is recorded in the ledger with every verdict, and what
is compared is the record.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ledger.store import Ledger
from market.core.redaction import display_address
from models.bundle.pointer import CHAMPION, read_pointer
from monitoring.recovery.recovery import market_chain
from pipelines.config.config import Config
from pipelines.data.loaders import read_rule_history
from pipelines.data.provenance import library_versions, source_sha256

RETRAINED = "retrain"
"""Kind of the records of verdicts."""

QUOTELESS_ENGINE = "tier"
"""The engine that margins sampled accounts without the quotes of the ledger."""


def inputs_sha256(config: Config) -> str:
    """SHA-256 over what a training reads and by what it is done.

    These are the sections of the configuration that it uses, the code, the versions of the
    libraries, the rules, every file of bars, series and accounts, and the market records of the
    ledger where quotes can enter the labels.
    """
    tracking = config.tracking
    content = {
        "config": config.sha256(),
        "review": config.review.model_dump(mode="json"),
        "drift": config.drift.model_dump(mode="json"),
        "tracking": [display_address(tracking.uri), tracking.experiment, tracking.model],
        "code": source_sha256(),
        "libraries": library_versions(),
        "rules": _rules(config),
        "files": [[path.name, _file_sha256(path)] for path in _files(config)],
        "market": _market_head(config),
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def identical_training(config: Config) -> dict[str, Any] | None:
    """The record of the newest training if another one would only repeat it; None where not.

    It is not repeated where its inputs are the same, no gate was accepted by a person, it was not
    refused, and the champion is the one that it left.
    """
    with Ledger(config.ledger.url) as ledger:
        record = ledger.last_record(RETRAINED)
    if record is None:
        return None
    verdict, root = record.payload, config.serving.bundles
    left = verdict["bundle" if verdict["verdict"] == "promoted" else "champion_before"]
    if (
        verdict["verdict"] == "refused"
        or verdict.get("accepted")
        or left is None
        or read_pointer(root, CHAMPION) != left
        or not (root / str(left)).is_dir()
        or verdict.get("inputs_sha256") != inputs_sha256(config)
    ):
        return None
    return {"verdict": verdict["verdict"], "bundle": verdict["bundle"], "champion": left}


def _rules(config: Config) -> list[str]:
    versions = list(read_rule_history(config).versions)
    training = config.training
    if training.ruleset:
        from margin.rules.history import load_history

        versions += load_history(training.path or training.ruleset).versions
    return [version.sha256 for version in versions]


def _market_head(config: Config) -> str | None:
    """Newest record of the market where labels may need quotes, see `label_market`."""
    tiers = all(
        version.engine == QUOTELESS_ENGINE for version in read_rule_history(config).versions
    )
    if tiers and config.accounts.path is None and not config.training.ruleset:
        return None
    with Ledger(config.ledger.url) as ledger:
        head = market_chain(ledger).head()
    return str(head)


def _files(config: Config) -> Iterator[Path]:
    """All files that a training reads, folder by folder in the order of their names."""
    market = config.market
    folders = [bars.path for bars in market.bars]
    folders += [
        folder
        for folder in (market.funding, market.open_interest, config.accounts.path)
        if folder is not None
    ]
    for folder in folders:
        yield from sorted(folder.glob("*.parquet"))
    for series in (market.implied_vol, market.option_surface):
        yield from (path for _, path in sorted(series.items()))
    if config.simulate.path is not None:
        yield config.simulate.path


def _file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
