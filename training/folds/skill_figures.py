"""Skill of every model against the best baseline, from sums by day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.evaluation.bootstrap import skill_interval_of_days
from training.evaluation.evaluate import BOOTSTRAP_SEED, MODEL
from training.evaluation.metrics import log_loss_skill
from training.fitting.baselines import BASELINES
from training.folds.day_totals import DayTotals


def skill_table(totals: DayTotals) -> dict[str, Any]:
    """Figures of all models on the rows of the sums.

    The best baseline is the one with the lowest log loss over all rows. ``log_loss_skill`` =
    1 - log loss / log loss of the best baseline, with a 95% interval from a paired bootstrap over
    days (null with fewer than two days).

    Returns
    -------
    dict
        ``rows``, ``days``, ``positives``, ``base_rate``, ``best_baseline``, by name in ``models``
        the figures ``log_loss``, ``log_loss_skill``, ``log_loss_skill_ci95`` and
        ``predicted_over_observed`` (null without events), and beside them those of the model
        itself, ``log_loss`` apart.

    Raises
    ------
    ModelError
        The best baseline's loss is not positive on some resample of days.

    References
    ----------
    Davison and Hinkley (1997), Bootstrap Methods and their Application, 2.4 and 3.8.
    """
    rows, observed = int(totals.rows.sum()), int(totals.observed.sum())
    loss = {name: float(values.sum()) / rows for name, values in totals.losses.items()}
    best = min((name for name in BASELINES if name in loss), key=loss.__getitem__)
    models = {
        name: {
            "log_loss": loss[name],
            "log_loss_skill": log_loss_skill(loss[name], loss[best]),
            "log_loss_skill_ci95": skill_interval_of_days(
                values, totals.losses[best], seed=BOOTSTRAP_SEED
            ),
            "predicted_over_observed": (
                float(totals.predicted[name].sum()) / observed if observed else None
            ),
        }
        for name, values in totals.losses.items()
    }
    return {
        "rows": rows,
        "days": len(totals.day),
        "positives": observed,
        "base_rate": observed / rows,
        "best_baseline": best,
        **{name: value for name, value in models[MODEL].items() if name != "log_loss"},
        "models": models,
    }


def pooled_tables(parts: Sequence[Mapping[int, DayTotals]]) -> dict[str, Any]:
    """`skill_table` of all parts together by horizon, for the horizons that all parts have."""
    horizons = [hours for hours in parts[0] if all(hours in p for p in parts)] if parts else []
    return {
        str(hours): skill_table(DayTotals.pooled([part[hours] for part in parts]))
        for hours in horizons
    }
