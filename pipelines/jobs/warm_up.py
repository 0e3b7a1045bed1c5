"""Compile the kernels that an endpoint uses, before there is a market or a model.

For the build of an image, whose containers then start warm. numba keeps kernels for the processor
that they were compiled on: another kind of processor compiles them again at its first start, and
readiness waits for it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np

from decisions.what_if.messages import WhatIfRequest
from features.state.snapshot import MarketSnapshot
from ledger.store import Ledger
from margin.engines.registry import engine_of
from margin.rules.history import RuleHistory
from margin.rules.ruleset import RuleSet
from market.core.clock import format_time
from market.core.errors import MargincastError
from models.prior.spline_basis import ramps
from models.prior.spline_prior import DEFAULT_KNOTS, SplinePrior
from models.prior_model import prior_model
from monitoring.champion import Champion
from monitoring.market_state.messages import BarsRequest
from monitoring.shared_market import PostOrigin
from monitoring.warm_up import synthetic_accounts, warm_up
from pipelines.config.config import Config
from pipelines.config.sections import MarketConfig, SimulateConfig
from pipelines.data.loaders import read_rule_history
from pipelines.jobs.serve import live_market
from serving.http.security.duplicate_keys import duplicate_key
from serving.service import Service
from serving.settings import ServingSettings
from serving.telemetry.metrics.metrics import Metrics

_SYMBOLS = 4
_DAYS, _DAYS_OF_HISTORY = 12, 400
"""Days of the simulated market, and those where the rule set simulates history."""


def compile_kernels(config: Config) -> dict[str, Any]:
    """Start an endpoint on a simulated market and an empty ledger, and use it.

    Under each version of the configured rules it scores, with a model and without, analyses
    what-ifs and takes bars. Nothing is left behind but the kernels.

    Returns
    -------
    The folder of the kernels, how many files it holds, how many are new, and the seconds.

    Raises
    ------
    MargincastError
        A version of the rules decides on none of the accounts, so its kernels did not run.
    """
    start, folder = time.perf_counter(), Path(os.environ["NUMBA_CACHE_DIR"])
    before = _kernels(folder)
    duplicate_key(b"{}")  # as the endpoint does with the body of a request
    for version in read_rule_history(config).versions:
        _use(config, version)
    after = _kernels(folder)
    return {
        "kernels": str(folder),
        "files": len(after),
        "new_files": len(after - before),
        "seconds": time.perf_counter() - start,
    }


def _use(config: Config, ruleset: RuleSet) -> None:
    with (
        TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        Ledger(f"sqlite:///{Path(folder) / 'ledger.db'}", chain="serving") as ledger,
    ):
        bundles = Path(folder)
        live = live_market(_simulated(config, ruleset, bundles), ledger)
        settings = ServingSettings("127.0.0.1", 1, bundles, clock="market", auth="off")
        service = Service(settings, ledger, RuleHistory.constant(ruleset), live, Metrics())
        service.recover()
        service.warm_up()
        snapshot = live.state.decision_snapshot(None, "market", None)
        model = prior_model(ruleset.sha256)
        for trees in model.bundle.trees.values():  # as the audit of a bundle does
            trees.raw_score(np.zeros((1, trees.n_features)))
        _use_spline_prior()
        if not warm_up(Champion(model, "", None), snapshot, ruleset):
            raise MargincastError(
                f"rule set {ruleset.name} {ruleset.version} decides on none of the warm-up's "
                "accounts, so its kernels were not compiled; check its universe and its tables"
            )
        service.what_if(_what_if(snapshot))
        service.post_bars(_next_bars(snapshot), PostOrigin("warm-up"))


def _use_spline_prior() -> None:
    """Evaluate a fitted prior, as the self-test of a bundle and an explanation do."""
    parameters = np.full(1 + sum(len(knots) for knots in DEFAULT_KNOTS), -0.1)
    prior, distances = SplinePrior.of_parameters(parameters), np.zeros((1, len(DEFAULT_KNOTS)))
    prior.score(distances)
    prior.shares(distances)
    for column, knots in zip(distances.T, DEFAULT_KNOTS, strict=True):
        ramps(column, knots)


def _simulated(config: Config, ruleset: RuleSet, bundles: Path) -> Config:
    """The configuration on a small simulated market, without saved state or models."""
    days = _DAYS_OF_HISTORY if engine_of(ruleset).needs_daily_history else _DAYS
    return config.model_copy(
        update={
            "market": MarketConfig(interval=config.market.interval),
            "simulate": SimulateConfig(days=days, symbols=_SYMBOLS),
            "serving": config.serving.model_copy(update={"bundles": bundles}),
        }
    )


def _what_if(snapshot: MarketSnapshot) -> WhatIfRequest:
    """A what-if request that uses every analysis of an account."""
    accounts = [msgspec.to_builtins(account) for account in synthetic_accounts(snapshot)]
    name, leg = accounts[0]["account_id"], accounts[0]["positions"][0]
    body = {
        "accounts": accounts,
        "changes": [{"account_id": name, "deposit": 1.0}],
        "target_headroom": 1.0,
        "marginal": True,
        "largest": [{"account_id": name, "instrument": leg["instrument"], "side": "buy"}],
    }
    return msgspec.convert(body, WhatIfRequest)


def _next_bars(snapshot: MarketSnapshot) -> BarsRequest:
    """The bar after the newest one, at its close, of every symbol with a mark."""
    ts = format_time(int(snapshot.features.closes[0]))
    bars = [
        {"symbol": symbol, "ts": ts, "volume": 1.0}
        | dict.fromkeys(("open", "high", "low", "close"), mark)
        for symbol, mark in zip(snapshot.features.symbols, snapshot.mark.tolist(), strict=True)
        if mark > 0.0
    ]
    return msgspec.convert({"interval": snapshot.interval.name, "bars": bars}, BarsRequest)


def _kernels(folder: Path) -> set[Path]:
    return set(folder.rglob("*.nbc"))
