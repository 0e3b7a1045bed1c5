"""What the endpoints are measured on: a market in files, a trained model, accounts.

The size is that of an installation: `DAYS` of hourly bars, three ensembles of `TREES` trees, the
reference population. All of it is simulated from seeds, so every run measures the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.workloads.sample_book import Sample, write_model
from decisions.book_scoring import account_rows
from features.account.frame import compute_aggregates
from features.state.snapshot import MarketSnapshot
from margin.book.requirement import compute_requirement
from margin.rules.ruleset import RuleSet
from market.accounts.book import Account, Book
from market.core.arrays import Floats
from models.bundle.bundle import load_bundle
from models.bundle.pointer import promote
from models.forecaster import Forecaster
from pipelines.config.config import Config, load_config
from pipelines.data.loaders import read_market, read_rules, sample_accounts
from pipelines.jobs.serve import MARKET_STATE
from pipelines.jobs.simulate import simulate

DAYS, SYMBOLS, ACCOUNTS = 180, 8, 4_000

_SIMULATED = """
[simulate]
days = {days}
symbols = {symbols}
[accounts]
population = "reference-v1"
count = {accounts}
"""
_SERVED = """
[market]
bars = ["simulated/bars"]
[accounts]
population = "reference-v1"
count = {accounts}
[rules]
ruleset = "linear-tiers"
[serving]
bundles = "bundles"
clock = "market"
auth = "off"
[ledger]
url = "sqlite:///ledger.db"
"""


@dataclass(frozen=True)
class World:
    """Files and request bodies of a run.

    Attributes
    ----------
    folder:
        Where everything lies.
    config:
        The configuration file of the endpoint.
    ruleset, model, snapshot, book:
        What a decision rests on, for measurements in process.
    accounts:
        The same accounts as messages.
    features:
        The model's columns of the first accounts, which the peers are asked about, shape (N, F).
    """

    folder: Path
    config: Path
    ruleset: RuleSet
    model: Forecaster
    snapshot: MarketSnapshot
    book: Book
    accounts: Sequence[dict[str, Any]]
    features: Floats

    @property
    def onnx(self) -> Path:
        """The model's graph."""
        return self.folder / "bundles" / self.model.bundle.sha256 / "model.onnx"

    @property
    def saved_state(self) -> Path:
        """The market state as a retraining saves it."""
        return self.folder / "bundles" / MARKET_STATE


def make_world(folder: Path, *, days: int = DAYS, accounts: int = ACCOUNTS) -> World:
    """Simulate a market, train a model of the usual size, draw accounts."""
    sizes = {"days": days, "symbols": SYMBOLS, "accounts": accounts}
    simulate(_config(folder / "simulate.toml", _SIMULATED.format(**sizes)), folder / "simulated")
    path = folder / "margincast.toml"
    config = _config(path, _SERVED.format(**sizes))
    market = read_market(config)
    ruleset = read_rules(config, market)
    newest = len(market.history.bars) - 1
    book = sample_accounts(config, market).book_at(newest, market.history.bars.symbols)
    snapshot = MarketSnapshot.of_history(
        market.history, market.features, int(market.history.bars.closes[-1])
    )
    bundles = config.serving.bundles
    bundles.mkdir()
    sha256, _ = write_model(
        bundles, Sample(market.history, market.features, snapshot, book), ruleset
    )
    promote(bundles, sha256)
    market.state.save(bundles / MARKET_STATE)
    model = Forecaster(load_bundle(bundles / sha256))
    requirement = compute_requirement(book, snapshot.view(), ruleset)
    rows = account_rows(requirement, np.arange(len(book)))
    features = model.features(compute_aggregates(rows, snapshot.features))
    messages = [account_message(account) for account in book.accounts()]
    return World(folder, path, ruleset, model, snapshot, book, messages, features)


def account_message(account: Account) -> dict[str, Any]:
    """An account as `POST /v1/score` takes it."""
    return {
        "account_id": account.account_id,
        "cash": account.cash,
        "positions": [
            {name: value for name, value in msgspec.to_builtins(leg).items() if value is not None}
            for leg in account.positions
        ],
        "collateral": [msgspec.to_builtins(balance) for balance in account.collateral],
    }


def score_bodies(world: World) -> list[str]:
    """Bodies of `POST /v1/score`, one account each."""
    return [json.dumps({"accounts": [account]}) for account in world.accounts]


def _config(path: Path, text: str) -> Config:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return load_config(path)
