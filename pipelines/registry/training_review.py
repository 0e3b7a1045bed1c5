"""Review figures beyond the test rows: folds, attribution, backtest of the add-on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.identity import coefficients_end
from margin.rules.ruleset import RuleSet
from market.core.clock import format_time
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
from training.folds.cut import Fold, cut_blocks, stress_folds
from training.folds.fold_report import FoldResult, evaluate_fold
from training.folds.skill_figures import pooled_tables
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
    """Contributions, ablation, walk-forward, folds and backtest: for review only, no gate reads
    them. ``walk_forward`` pools the blocks whose own reports stand among the ``folds``.

    What ``[review]`` switches off is null. Where the data do not suffice for a fold, ablation or
    backtest, ``not_evaluated`` gives the reason and the training goes on.
    """
    settings = trained.config.review
    walked = _or_reason(lambda: _walk_forward(trained), settings.folds > 0)
    blocks = (walked or {}).pop("folds", [])
    return {
        "contributions": mean_contributions(trained.candidate, trained.test),
        "ablation": _or_reason(
            lambda: ablation(trained.candidate, trained.data, trained.block), settings.ablation
        ),
        "walk_forward": walked,
        "folds": blocks + (_stress(trained) if settings.stress_folds else []),
        "backtest": _or_reason(lambda: _backtest(trained, stages), settings.backtest),
    }


def _or_reason(part: Callable[[], dict[str, Any]], enabled: bool) -> dict[str, Any] | None:
    try:
        return part() if enabled else None
    except MargincastError as error:
        return {"not_evaluated": str(error)}


def _walk_forward(trained: TrainingArtifacts) -> dict[str, Any]:
    """How the blocks were cut, their pooled figures, and the report of each in ``folds``."""
    data, settings = trained.data, trained.config.review
    cut = cut_blocks(
        int(data.time[0]), trained.ends[2], settings.walk_forward_months, settings.folds
    )
    results = [_evaluate(trained, fold) for fold in cut.folds(data)]
    end = coefficients_end(trained.candidate.schema.features)
    return {
        "block_length": cut.length,
        "coefficients_end": None if end is None else format_time(end),
        "most_rows": settings.walk_forward_rows,
        "pooled": pooled_tables([result.totals for result in results if result.totals]),
        "folds": [result.report for result in results],
    }


def _stress(trained: TrainingArtifacts) -> list[dict[str, Any]]:
    if not trained.market.real:
        return []
    folds = stress_folds(trained.data, trained.ends[1])
    return [_evaluate(trained, fold).report for fold in folds]


def _evaluate(trained: TrainingArtifacts, fold: Fold) -> FoldResult:
    config, market = trained.config, trained.market
    return evaluate_fold(
        trained.data,
        fold,
        config.review.walk_forward_rows,
        describe(config, market),
        market.history.bars.symbols,
    )


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
