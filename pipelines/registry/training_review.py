"""Review figures beyond the test rows: folds, attribution, backtest of the add-on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import joblib
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
from training.backtest.backtest import BacktestSettings, backtest
from training.evaluation.attribution import ablation, mean_contributions
from training.fitting.candidate import Candidate
from training.folds.cut import Fold, cut_blocks, stress_folds
from training.folds.fold_report import FoldResult, evaluate_fold
from training.folds.skill_figures import pooled_tables
from training.labels.book_intervals import BookIntervals
from training.labels.dataset import Dataset

_MOST_WORKERS = 4
"""Folds that are in memory at once, at most."""

BACKTEST_HOURS = 50_000
CALL_HOURS = 12_000
"""Account-hours of the backtest, and of its calls: a fifth of those of the verb. Its intervals are
over blocks of days, which are all there."""


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
    them. ``learning`` has the loss by number of trees, see `training.fitting.trees.LearningCurve`;
    ``walk_forward`` pools the blocks whose own reports stand among the ``folds``;
    ``fold_times`` has the start and end of the work on each fold in nanoseconds.

    What ``[review]`` switches off is null. Where the data do not suffice for a fold, ablation or
    backtest, ``not_evaluated`` gives the reason and the training goes on.

    Folds and ablation run side by side, each on its share of the processor cores: LightGBM gains
    little from a second core on their few rows.
    """
    settings = trained.config.review
    cores = joblib.cpu_count()
    workers = min(cores, _MOST_WORKERS)
    with ThreadPoolExecutor(workers) as pool, ThreadPoolExecutor(1) as waiting:
        side = _SideBySide(trained, pool, cores // workers)
        ablated = pool.submit(
            _or_reason,
            lambda: ablation(trained.candidate, trained.data, trained.block, side.threads),
            settings.ablation,
        )
        stressed = waiting.submit(_stress, side) if settings.stress_folds else None
        walked = _or_reason(lambda: _walk_forward(side), settings.folds > 0)
        folds = (walked or {}).pop("folds", []) + (stressed.result() if stressed else [])
        without = ablated.result()
    # Apart from the figures, which are the same whenever they are computed.
    times = [fold.pop("computed_ns") for fold in folds]
    return {
        "learning": {
            str(hours): asdict(ensemble.curve)
            for hours, ensemble in trained.candidate.ensembles.items()
        },
        "contributions": mean_contributions(trained.candidate, trained.test),
        "ablation": without,
        "walk_forward": walked,
        "folds": folds,
        "fold_times": times,
        "backtest": _or_reason(lambda: _backtest(trained, stages), settings.backtest),
    }


def _or_reason(part: Callable[[], dict[str, Any]], enabled: bool) -> dict[str, Any] | None:
    try:
        return part() if enabled else None
    except MargincastError as error:
        return {"not_evaluated": str(error)}


@dataclass(frozen=True, slots=True)
class _SideBySide:
    """Folds evaluated by the workers of a pool, each with so many threads for LightGBM."""

    trained: TrainingArtifacts
    pool: Executor
    threads: int

    def evaluate(self, folds: Iterable[Fold]) -> list[FoldResult]:
        """The results in the order of the folds."""
        trained = self.trained

        def one(fold: Fold) -> FoldResult:
            started = time.time_ns()
            result = evaluate_fold(
                trained.data,
                fold,
                trained.config.review.walk_forward_rows,
                describe(trained.config, trained.market),
                trained.market.history.bars.symbols,
                self.threads,
                trained.candidate.settings,
            )
            result.report["computed_ns"] = [started, time.time_ns()]
            return result

        return list(self.pool.map(one, folds))


def _walk_forward(side: _SideBySide) -> dict[str, Any]:
    """How the blocks were cut, their pooled figures, and the report of each in ``folds``."""
    trained = side.trained
    data, settings = trained.data, trained.config.review
    cut = cut_blocks(
        int(data.time[0]), trained.ends[2], settings.walk_forward_months, settings.folds
    )
    results = side.evaluate(cut.folds(data))
    end = coefficients_end(trained.candidate.schema.features)
    return {
        "block_length": cut.length,
        "coefficients_end": None if end is None else format_time(end),
        "most_rows": settings.walk_forward_rows,
        "pooled": pooled_tables([result.totals for result in results if result.totals]),
        "folds": [result.report for result in results],
    }


def _stress(side: _SideBySide) -> list[dict[str, Any]]:
    trained = side.trained
    if not trained.market.real:
        return []
    folds = stress_folds(trained.data, trained.ends[1])
    return [result.report for result in side.evaluate(folds)]


def _backtest(trained: TrainingArtifacts, stages: Stages) -> dict[str, Any]:
    config, market, ruleset = trained.config, trained.market, trained.ruleset
    fit_end, calibrate_end, test_end = trained.ends
    settings = BacktestSettings(
        (fit_end, calibrate_end),
        (calibrate_end, test_end),
        config.accounts.seed,
        BACKTEST_HOURS,
        CALL_HOURS,
    )
    behaving = read_behaving(config, market, ruleset, settings.test, settings.call_hours)
    return backtest(
        label_market(config, market, trained.intervals, ruleset),
        trained.intervals,
        trained.intervals if behaving is None else behaving,
        ruleset,
        Forecaster(trained.bundle),
        settings,
        stages.within,
    )
