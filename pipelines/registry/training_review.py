"""What a reviewer wants to know beyond the test figures: folds, attribution, the add-on's cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from margin.rules.ruleset import RuleSet
from market.core.errors import MargincastError
from models.bundle.bundle import Bundle
from models.forecaster import Forecaster
from pipelines.cli.progress import Stages
from pipelines.config.config import Config
from pipelines.data.accounts import label_market
from pipelines.data.loaders import Market, describe
from training.backtest.backtest import BacktestSettings, backtest
from training.evaluation.attribution import ablation, mean_contributions
from training.fitting.candidate import Candidate
from training.fitting.folds import cut_folds, evaluate_fold
from training.labels.book_intervals import BookIntervals
from training.labels.dataset import Dataset


@dataclass(frozen=True, slots=True)
class TrainingArtifacts:
    """A training when its bundle is written.

    Attributes
    ----------
    config, market, intervals, ruleset:
        What it was made from.
    data, block:
        All rows and the block of each.
    ends:
        Ends of the fit, calibrate and test blocks in ns.
    candidate, bundle, test:
        What was made, and the test rows.
    """

    config: Config
    market: Market
    intervals: BookIntervals
    ruleset: RuleSet
    data: Dataset
    block: npt.NDArray[np.int8]
    ends: tuple[int, int, int]
    candidate: Candidate
    bundle: Bundle
    test: Dataset


def examine(trained: TrainingArtifacts, stages: Stages) -> dict[str, Any]:
    """Contributions, ablation, folds and backtest: for review only, no gate reads them.

    What ``[review]`` leaves out is null. A fold, ablation or backtest that the data do not allow
    says why in ``not_evaluated``, and the training goes on.
    """
    asked = trained.config.review
    return {
        "contributions": mean_contributions(trained.candidate, trained.test),
        "ablation": _ablation(trained) if asked.ablation else None,
        "folds": _folds(trained),
        "backtest": _backtest(trained, stages) if asked.backtest else None,
    }


def _ablation(trained: TrainingArtifacts) -> dict[str, Any]:
    try:
        return ablation(trained.candidate, trained.data, trained.block)
    except MargincastError as error:
        return {"not_evaluated": str(error)}


def _folds(trained: TrainingArtifacts) -> list[dict[str, Any]]:
    config, market = trained.config, trained.market
    try:
        folds = list(
            cut_folds(
                trained.data.time,
                trained.data.horizons[-1],
                trained.ends[1],
                config.review.folds,
                stress=config.review.stress_folds and market.real,
            )
        )
    except MargincastError as error:
        return [{"name": "walk_forward", "kind": "walk_forward", "not_evaluated": str(error)}]
    description, symbols = describe(config, market), market.history.bars.symbols
    return [evaluate_fold(trained.data, fold, description, symbols) for fold in folds]


def _backtest(trained: TrainingArtifacts, stages: Stages) -> dict[str, Any]:
    fit_end, calibrate_end, test_end = trained.ends
    try:
        return backtest(
            label_market(trained.config, trained.market, trained.intervals, trained.ruleset),
            trained.intervals,
            trained.ruleset,
            Forecaster(trained.bundle),
            BacktestSettings(
                (fit_end, calibrate_end), (calibrate_end, test_end), trained.config.accounts.seed
            ),
            stages.within,
        )
    except MargincastError as error:
        return {"not_evaluated": str(error)}
