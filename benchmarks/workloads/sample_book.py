"""A book to measure on: a simulated market, a sampled population and a model with real trees."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import msgspec
import numpy as np
import numpy.typing as npt
from scipy.special import expit

from benchmarks.desk import slice_book
from decisions.book_scoring import account_rows
from features.account.aggregates import HEADROOM, HERFINDAHL, PRIOR_VOLATILITY
from features.account.frame import compute_aggregates, compute_features
from features.identity import digests_of
from features.registry import (
    ACCOUNT_COLUMNS,
    ACCOUNT_FEATURES,
    HORIZONS,
    prior_column,
)
from features.state.market_state import MarketFeatures, MarketState
from features.state.snapshot import MarketSnapshot
from margin.book.requirement import compute_requirement
from margin.rules.ruleset import RuleSet
from market.accounts.book import Book
from market.bars.history import MarketHistory
from market.core.clock import INTERVALS
from market.simulator.population import Population, sample_population
from market.simulator.simulated_market import simulate_bars
from models.bundle.bundle import bundle_files, write_bundle
from models.bundle.manifest import TrainingRecord
from models.bundle.schema import ModelSchema
from models.onnx.export import export
from models.trees.lightgbm_trees import trees_from_booster

Floats = npt.NDArray[np.float64]

INTERVAL = INTERVALS["1h"]
SYMBOLS, DAYS, POSITIONS = 20, 16, 5
TREES, TRAINING_ROWS, SEED = 300, 20_000, 1
"""Trees a horizon: the maximum of `training.fitting.fit`."""

SCHEMA = ModelSchema.of_columns(
    features=ACCOUNT_COLUMNS,
    monotone=tuple(feature.monotone for feature in ACCOUNT_FEATURES),
    horizons=HORIZONS,
    prior=tuple(prior_column(hours) for hours in HORIZONS),
    feature_digests=digests_of(ACCOUNT_COLUMNS),
)

_PARAMETERS: dict[str, Any] = {
    "objective": "binary",
    "num_leaves": 15,
    "learning_rate": 0.05,
    "boost_from_average": False,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
    "seed": SEED,
    "monotone_constraints": list(SCHEMA.monotone),
}


@dataclass(frozen=True, slots=True)
class Sample:
    """A market at its last bar and a book of perpetuals on it."""

    history: MarketHistory
    features: MarketFeatures
    snapshot: MarketSnapshot
    book: Book


def sample(accounts: int) -> Sample:
    """The reference population with `POSITIONS` coins an account, at the market's last bar."""
    panel = simulate_bars(SEED, DAYS, SYMBOLS, INTERVAL)
    features = MarketState(panel.symbols, INTERVAL).advance(panel)
    history = MarketHistory.from_panel(panel)
    reference = Population.load("reference-v1")
    population = msgspec.structs.replace(
        reference,
        name="reference-v1-wide",
        coins=msgspec.structs.replace(reference.coins, least=POSITIONS, most=POSITIONS),
    )
    usable = features.usable(INTERVAL) & ~np.isnan(history.mark)
    sampled = sample_population(
        population, accounts, SEED, history.bars.closes, history.mark, usable
    )
    return Sample(
        history,
        features,
        MarketSnapshot.of_history(history, features, int(history.bars.closes[-1])),
        sampled.book_at(len(panel) - 1, panel.symbols),
    )


def write_model(root: Path, inputs: Sample, ruleset: RuleSet) -> tuple[str, list[lightgbm.Booster]]:
    """Write a bundle of trees trained on the sample; its name, and a booster a horizon.

    The accounts stand at every distance from a call. Breaches are drawn from the prior corrected
    by the book's volatility and concentration, so that the trees have something to learn.
    """
    rng = np.random.default_rng(SEED)
    book = slice_book(inputs.book, 0, min(len(inputs.book), TRAINING_ROWS))
    requirement = compute_requirement(book, inputs.snapshot.view(), ruleset)
    repeats = -(-TRAINING_ROWS // len(book))
    rows = account_rows(requirement, np.arange(len(book)))
    rows_once = compute_aggregates(rows, inputs.snapshot.features)
    aggregates = np.repeat(rows_once, repeats, axis=0)[:TRAINING_ROWS]
    sigma = aggregates[:, PRIOR_VOLATILITY]
    aggregates[:, HEADROOM] = sigma * np.exp(rng.uniform(np.log(0.3), np.log(40.0), len(sigma)))
    X = compute_features(aggregates, SCHEMA.features)
    crowding = aggregates[:, HERFINDAHL] - 0.35
    boosters = []
    for column in SCHEMA.prior_columns():
        truth = 0.8 * X[:, column] + 3.0 * crowding + 0.5 * np.sin(X[:, column])
        y = (rng.random(len(X)) < expit(truth)).astype(np.float64)
        data = lightgbm.Dataset(X, y, init_score=X[:, column].copy())
        boosters.append(lightgbm.train(_PARAMETERS, data, TREES))
    trees = {
        hours: trees_from_booster(booster, len(ACCOUNT_COLUMNS))
        for hours, booster in zip(HORIZONS, boosters, strict=True)
    }
    calibration = dict.fromkeys(HORIZONS, (1.0, 0.0))
    files = bundle_files(
        model=export(SCHEMA, trees, calibration),
        schema=SCHEMA,
        trees=trees,
        calibration=calibration,
        record=TrainingRecord("1" * 64, ruleset.sha256, {"lightgbm": lightgbm.__version__}),
    )
    return write_bundle(root, files), boosters
