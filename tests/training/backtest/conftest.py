"""A small simulated market with accounts, and a model of the structural prior alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from features.identity import digests_of
from features.state.market_state import MarketFeatures, MarketState
from margin.rules.ruleset import RuleSet, load_ruleset
from market.bars.history import MarketHistory
from market.bars.panel import BarPanel
from market.core.clock import DAY, INTERVALS
from market.simulator.market_parameters import MarketParameters
from market.simulator.population import Population, SampledAccounts, sample_population
from market.simulator.simulated_market import simulate_bars
from models.bundle.bundle import bundle_files, load_bundle, write_bundle
from models.bundle.manifest import TrainingRecord
from models.bundle.schema import ModelSchema
from models.forecaster import Forecaster
from models.onnx.export import export
from models.trees.tree_table import TreeTable
from training.backtest.account_hours import AccountHours, sample_account_hours
from training.backtest.backtest import BacktestSettings, backtest
from training.backtest.policies import PolicySources
from training.labels.book_intervals import BookIntervals, from_sampled_accounts
from training.labels.market_path import LabelMarket

DAYS, SYMBOLS, SLOTS = 34, 4, 30
LEAST_HOURS = 1500


@dataclass(frozen=True)
class World:
    history: MarketHistory
    market: MarketFeatures
    accounts: SampledAccounts
    intervals: BookIntervals
    ruleset: RuleSet
    calibrate: tuple[int, int]
    test: tuple[int, int]

    @property
    def label_market(self) -> LabelMarket:
        return LabelMarket(self.history, self.market)

    def hours(self, span: tuple[int, int] | None = None, **changes: int) -> AccountHours:
        settings = {"least_hours": LEAST_HOURS, "seed": 1} | changes
        return sample_account_hours(
            self.intervals, self.label_market, self.ruleset, span or self.test, **settings
        )

    def sources(self, forecaster: Forecaster, stress_ratio: float = 1.5) -> PolicySources:
        return PolicySources(
            self.history,
            self.market,
            self.ruleset,
            forecaster,
            stress_ratio,
            np.geomspace(1e-3, 200.0, 14),
        )

    @property
    def settings(self) -> BacktestSettings:
        return BacktestSettings(self.calibrate, self.test, 1, LEAST_HOURS)


def features_of(panel: BarPanel) -> tuple[MarketHistory, MarketFeatures]:
    market = MarketState(panel.symbols, panel.interval).advance(panel)
    return MarketHistory.from_panel(panel), market


def steady() -> MarketParameters:
    """A market without slow volatility or stress, so that no test depends on its last days."""
    assumed = MarketParameters.load("assumed")
    volatility = msgspec.structs.replace(assumed.volatility, slow_spread=0.0, fast_spread=0.35)
    regimes = msgspec.structs.replace(assumed.regimes, stress_share=0.0)
    return msgspec.structs.replace(assumed, volatility=volatility, regimes=regimes)


@pytest.fixture(scope="module")
def world() -> World:
    """Accounts of three times the usual leverage, so that a month has shortfalls."""
    panel = simulate_bars(5, DAYS, SYMBOLS, INTERVALS["1h"], parameters=steady())
    history, market = features_of(panel)
    population = Population.load("reference-v1")
    leverage = msgspec.structs.replace(population.leverage, median=15.0)
    population = msgspec.structs.replace(population, leverage=leverage)
    eligible = market.usable(panel.interval)
    accounts = sample_population(population, SLOTS, 7, panel.closes, history.mark, eligible)
    middle = int(panel.closes[0]) + 20 * DAY
    return World(
        history,
        market,
        accounts,
        from_sampled_accounts(accounts, panel.symbols),
        load_ruleset("linear-tiers"),
        (int(panel.closes[0]), middle),
        (middle, int(panel.closes[-1])),
    )


def make_forecaster(folder: Path, horizons: tuple[int, ...] = (1, 8, 24)) -> Forecaster:
    names = tuple(f"prior_logit_{hours}h" for hours in horizons)
    schema = ModelSchema.of_columns(names, (1,) * len(names), horizons, names, digests_of(names))
    trees = {hours: TreeTable.empty(len(names)) for hours in horizons}
    calibration = dict.fromkeys(horizons, (0.9, 0.1))
    files = bundle_files(
        model=export(schema, trees, calibration),
        schema=schema,
        trees=trees,
        calibration=calibration,
        record=TrainingRecord("1" * 64, "2" * 64, {}),
    )
    return Forecaster(load_bundle(folder / write_bundle(folder, files)))


@pytest.fixture(scope="module")
def forecaster(tmp_path_factory: pytest.TempPathFactory) -> Forecaster:
    return make_forecaster(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def report(world: World, forecaster: Forecaster) -> dict[str, Any]:
    return backtest(
        world.label_market,
        world.intervals,
        world.intervals,
        world.ruleset,
        forecaster,
        world.settings,
    )
