"""Search for hyperparameters by the tree-structured Parzen estimator of Optuna."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import numpy.typing as npt

from market.core.arrays import Floats
from market.core.clock import format_time
from market.core.errors import ModelError
from training.evaluation.bootstrap import skill_interval_of_days
from training.fitting.hyperparameters import Hyperparameters
from training.labels.dataset import Dataset
from training.tuning.fold_losses import FoldLosses, SearchFold, cut_search_folds

if TYPE_CHECKING:
    import optuna

FACTOR = "num_iterations_factor"
"""Name of the space whose value multiplies the number of trees at every horizon."""


@dataclass(frozen=True, slots=True)
class Space:
    """Values of one hyperparameter: from `low` to `high`, both inclusive, or some choices.

    Attributes
    ----------
    low, high:
        Bounds where there are no choices.
    log:
        Draw the logarithm uniformly.
    choices:
        The values; empty for a range.
    """

    low: float
    high: float
    log: bool = False
    choices: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """What is searched and for how long.

    Attributes
    ----------
    spaces:
        By name of a number of `Hyperparameters`, or `FACTOR`.
    trials:
        At most so many.
    timeout_seconds:
        No trial begins after so many seconds; 0: no limit. With a limit the result depends on the
        speed of the machine.
    seed:
        Of the sampler and of the resampled days.
    folds:
        At least 2; the last one confirms, the others choose.
    """

    spaces: Mapping[str, Space]
    trials: int
    timeout_seconds: float
    seed: int
    folds: int


@dataclass(frozen=True, slots=True)
class Trial:
    """One set of values.

    Attributes
    ----------
    number:
        From 0.
    values:
        Drawn, by the name of the space.
    losses:
        Log loss by horizon in hours on each fold that chooses; empty where it failed.
    relative:
        Mean over folds and horizons of the loss divided by that of the defaults; None where it
        failed.
    error:
        Why it failed, or empty.
    started, ended:
        In nanoseconds since 1970 UTC.
    """

    number: int
    values: Mapping[str, float]
    losses: Sequence[Mapping[int, float]]
    relative: float | None
    error: str
    started: int
    ended: int


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found.

    Attributes
    ----------
    settings:
        To fit with: those of the best trial where they are used, else the defaults.
    used:
        Whether the best trial is used.
    trials:
        All, in their order.
    record:
        For the manifest: JSON without times or anything else that another run would not repeat.
    """

    settings: Hyperparameters
    used: bool
    trials: Sequence[Trial]
    record: Mapping[str, Any]


def search_hyperparameters(
    data: Dataset,
    block: npt.NDArray[np.int8],
    defaults: Hyperparameters,
    plan: SearchPlan,
    threads: int | None = None,
) -> SearchResult:
    """Look for settings with a smaller loss than the defaults on folds of the learning rows.

    All folds but the last choose: a trial's value is the mean, over these folds and all horizons,
    of its log loss divided by that of the defaults. The best trial is then compared with the
    defaults on the last fold, which took no part in the choice: it is used only if the 95%
    interval of its skill there, ``1 - loss / loss of the defaults`` summed over horizons and
    resampled by UTC day in pairs, lies above 0. Otherwise the defaults stay.

    Parameters
    ----------
    data:
        All rows.
    block:
        Code of `training.labels.splits.Block` of each row; only fit and calibrate rows are read.
    defaults:
        The configured settings, which are to beat; what has no space keeps their value.
    plan:
        Spaces, trials and folds.
    threads:
        Of LightGBM; None for those that the process may use. The result does not depend on it.

    Raises
    ------
    ModelError
        A fold cannot be fitted to or evaluated, or a space has no such hyperparameter.

    References
    ----------
    Bergstra et al. (2011), "Algorithms for hyper-parameter optimization", NeurIPS 24; Akiba et al.
    (2019), "Optuna", KDD.
    """
    threads = threads or joblib.cpu_count()
    *choose, confirm = cut_search_folds(data, block, plan.folds, defaults)
    reference = [fold.losses(defaults, threads) for fold in choose]
    trials: list[Trial] = []

    def evaluate(number: int, values: dict[str, float]) -> float:
        started = time.time_ns()
        try:
            settings = settings_of(defaults, values)
            losses = [fold.losses(settings, threads).mean for fold in choose]
            relative = _relative(losses, [one.mean for one in reference])
        except ModelError as error:
            trials.append(Trial(number, values, (), None, str(error), started, time.time_ns()))
            raise
        trials.append(Trial(number, values, losses, relative, "", started, time.time_ns()))
        return relative

    _optimise(plan, defaults, evaluate)
    return _decide(defaults, plan, trials, (confirm, threads), choose)


def settings_of(defaults: Hyperparameters, values: Mapping[str, float]) -> Hyperparameters:
    """The defaults with some values of a trial in their place."""
    changes: dict[str, Any] = dict(values)
    factor = changes.pop(FACTOR, 1.0)
    rounds = {h: max(1, round(factor * n)) for h, n in defaults.num_iterations.items()}
    return replace(defaults, num_iterations=rounds, **changes)


def _relative(
    losses: Sequence[Mapping[int, float]], reference: Sequence[Mapping[int, float]]
) -> float:
    ratios = [
        one[hours] / other[hours]
        for one, other in zip(losses, reference, strict=True)
        for hours in other
    ]
    return float(np.mean(ratios))


def _optimise(
    plan: SearchPlan,
    defaults: Hyperparameters,
    evaluate: Callable[[int, dict[str, float]], float],
) -> None:
    import optuna

    whole = {one.name for one in fields(defaults) if isinstance(getattr(defaults, one.name), int)}
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial: optuna.Trial) -> float:
        values = {
            name: _suggested(trial, name, space, name in whole)
            for name, space in sorted(plan.spaces.items())
        }
        return evaluate(trial.number, values)

    logger = optuna.logging.get_logger("optuna")
    disabled, logger.disabled = logger.disabled, True  # a failed trial is reported in its own run
    try:
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=plan.seed))
        timeout = plan.timeout_seconds or None
        study.optimize(objective, plan.trials, timeout=timeout, catch=(ModelError,))
    finally:
        logger.disabled = disabled


def _suggested(trial: optuna.Trial, name: str, space: Space, whole: bool) -> float:
    if space.choices:
        return trial.suggest_categorical(name, space.choices)
    if whole:
        return trial.suggest_int(name, int(space.low), int(space.high), log=space.log)
    return trial.suggest_float(name, space.low, space.high, log=space.log)


def _decide(
    defaults: Hyperparameters,
    plan: SearchPlan,
    trials: Sequence[Trial],
    confirmation: tuple[SearchFold, int],
    choose: Sequence[SearchFold],
) -> SearchResult:
    fold, threads = confirmation
    finished = [trial for trial in trials if trial.relative is not None]
    best = min(finished, key=lambda trial: (trial.relative, trial.number), default=None)
    skill, interval, used = None, None, False
    if best is None:
        reason = "no trial could be evaluated; the configured values stay"
    elif best.relative is None or best.relative >= 1.0:
        reason = "no trial has a smaller loss than the configured values, which stay"
    else:
        settings = settings_of(defaults, best.values)
        skill, interval = _skill(
            fold.losses(settings, threads), fold.losses(defaults, threads), plan.seed
        )
        used = interval is not None and interval[0] > 0.0
        reason = (
            f"trial {best.number} beats the configured values on the last fold and is used"
            if used
            else f"trial {best.number} does not beat the configured values on the last fold beyond "
            "chance; they stay"
        )
    record = {
        "trials": len(trials),
        "failed": len(trials) - len(finished),
        "seed": plan.seed,
        "folds": [[format_time(t) for t in one.span] for one in (*choose, fold)],
        "best": None if best is None else best.number,
        "values": {} if best is None else dict(best.values),
        "relative_loss": None if best is None else best.relative,
        "skill": skill,
        "skill_ci95": None if interval is None else list(interval),
        "used": used,
        "reason": reason,
    }
    chosen = settings_of(defaults, best.values) if used and best is not None else defaults
    return SearchResult(chosen, used, trials, record)


def _skill(
    model: FoldLosses, baseline: FoldLosses, seed: int
) -> tuple[float, tuple[float, float] | None]:
    """Skill over all horizons, each scaled by the loss of the defaults, and its interval."""

    def sums(losses: FoldLosses) -> Floats:
        scaled = [losses.by_day[hours] / baseline.mean[hours] for hours in baseline.mean]
        total: Floats = np.sum(scaled, axis=0)
        return total

    of_model, of_baseline = sums(model), sums(baseline)
    skill = 1.0 - float(of_model.sum() / of_baseline.sum())
    return skill, skill_interval_of_days(of_model, of_baseline, seed=seed)
