"""Review figures beyond the test rows: folds, attribution, backtest of the add-on."""

from __future__ import annotations

from collections.abc import Callable
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
from pipelines.data.accounts import label_market, read_behaving
from pipelines.data.loaders import Market, describe
from training.backtest.backtest import CALL_HOURS, BacktestSettings, backtest
from training.evaluation.attribution import ablation, mean_contributions
from training.fitting.candidate import Candidate
from training.fitting.folds import cut_folds, evaluate_fold
from training.labels.book_intervals import BookIntervals
from training.labels.dataset import Dataset


@dataclass(frozen=True, slots=True)
class TrainingArtifacts:
    """Inputs and results of a training: all rows with the block of each, the test rows, and the
    ends of the fit, calibration and test blocks in nanoseconds."""

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

    What ``[review]`` switches off is null. Where the data do not suffice for a fold, ablation or
    backtest, ``not_evaluated`` gives the reason and the training goes on.
    """
    settings = trained.config.review
    return {
        "contributions": mean_contributions(trained.candidate, trained.test),
        "ablation": _or_reason(
            lambda: ablation(trained.candidate, trained.data, trained.block), settings.ablation
        ),
        "folds": _folds(trained),
        "backtest": _or_reason(lambda: _backtest(trained, stages), settings.backtest),
    }


def _or_reason(part: Callable[[], dict[str, Any]], enabled: bool) -> dict[str, Any] | None:
    try:
        return part() if enabled else None
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
    config, market, ruleset = trained.config, trained.market, trained.ruleset
    fit_end, calibrate_end, test_end = trained.ends
    settings = BacktestSettings(
        (fit_end, calibrate_end), (calibrate_end, test_end), config.accounts.seed
    )
    behaving = read_behaving(config, market, ruleset, settings.test, CALL_HOURS)
    return backtest(
        label_market(config, market, trained.intervals, ruleset),
        trained.intervals,
        trained.intervals if behaving is None else behaving,
        ruleset,
        Forecaster(trained.bundle),
        settings,
        stages.within,
    )
