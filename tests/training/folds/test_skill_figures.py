"""Pooled figures are those of all rows together, whatever parts they come in."""

from __future__ import annotations

import json

import numpy as np
import pytest

from market.core.errors import ModelError
from training.evaluation.bootstrap import skill_interval
from training.evaluation.evaluate import BOOTSTRAP_SEED
from training.evaluation.metrics import clip_probability, log_loss_rows
from training.folds.day_totals import DayTotals
from training.folds.skill_figures import pooled_tables, skill_table

RNG = np.random.default_rng(5)
N = 4000
DAY = np.sort(RNG.integers(0, 30, N))
TRUTH = RNG.uniform(0.01, 0.3, N)
Y = (RNG.random(N) < TRUTH).astype(np.int8)
MODELS = {
    "margincast": TRUTH,
    "first_passage_isotonic": np.clip(TRUTH * RNG.uniform(0.7, 1.4, N), 0.0, 1.0),
    "logistic_distance": np.full(N, Y.mean()),
    "volatility_oracle": np.where(Y == 1, 0.9, 0.05),
}


def totals(rows: np.ndarray) -> DayTotals:
    return DayTotals.of(Y[rows], {name: p[rows] for name, p in MODELS.items()}, DAY[rows])


def test_table_is_that_of_the_rows() -> None:
    table = skill_table(totals(np.arange(N)))
    losses = {name: log_loss_rows(Y, clip_probability(p)) for name, p in MODELS.items()}
    assert table["best_baseline"] == "first_passage_isotonic", "the oracle is no baseline"
    assert table["rows"] == N
    assert table["positives"] == Y.sum()
    own, best = losses["margincast"], losses["first_passage_isotonic"]
    assert table["log_loss_skill"] == pytest.approx(1.0 - own.mean() / best.mean())
    assert table["log_loss_skill_ci95"] == pytest.approx(
        skill_interval(own, best, DAY, seed=BOOTSTRAP_SEED)
    )
    assert table["predicted_over_observed"] == pytest.approx(TRUTH.sum() / Y.sum())
    assert table["models"]["first_passage_isotonic"]["log_loss_skill"] == 0.0
    assert set(table["models"]) == set(MODELS)


def test_parts_pool_to_the_whole_even_where_they_share_days() -> None:
    parts = [totals(np.arange(k, N, 3)) for k in range(3)]
    whole, pooled = skill_table(totals(np.arange(N))), skill_table(DayTotals.pooled(parts))
    assert pooled["days"] == whole["days"] == 30
    assert pooled["log_loss_skill"] == pytest.approx(whole["log_loss_skill"])
    assert pooled["log_loss_skill_ci95"] == pytest.approx(whole["log_loss_skill_ci95"])


def test_best_baseline_of_the_pool_is_the_best_over_all_parts() -> None:
    """Each is best in one part; together the one with the smaller total loss is."""
    day, y = np.arange(4), np.array([0, 1, 0, 1])
    flat = {"margincast": np.full(4, 0.5)}
    first = DayTotals.of(
        y, flat | {"margin_ratio": np.full(4, 0.5), "first_passage": np.full(4, 0.45)}, day
    )
    second = DayTotals.of(
        y,
        flat | {"margin_ratio": np.full(4, 0.1), "first_passage": np.full(4, 0.4)},
        day + 4,
    )
    assert skill_table(first)["best_baseline"] == "margin_ratio"
    assert pooled_tables([{1: first}, {1: second}])["1"]["best_baseline"] == "first_passage"


def test_models_that_a_part_lacks_are_left_out_of_the_pool() -> None:
    part = DayTotals.of(Y, {name: p for name, p in MODELS.items() if "oracle" not in name}, DAY)
    assert "volatility_oracle" not in DayTotals.pooled([totals(np.arange(N)), part]).losses


def test_sums_survive_json_to_the_last_bit() -> None:
    made = totals(np.arange(N))
    again = DayTotals.from_dict(json.loads(json.dumps(made.to_dict())))
    assert again.to_dict() == made.to_dict()
    assert skill_table(again) == skill_table(made)


def test_nothing_to_pool_is_refused_and_no_part_gives_no_table() -> None:
    with pytest.raises(ModelError, match="no model in common"):
        DayTotals.pooled([])
    assert pooled_tables([]) == {}
