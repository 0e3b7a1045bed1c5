"""Performance expected without labels: what it is, and that it meets the truth if calibrated."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from market.core.clock import DAY
from market.core.errors import ModelError
from training.drift.performance import METRICS, expected_performance


def rows(factor: float, n: int = 40_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outcomes, probabilities and times of twenty weeks; outcomes are `factor` times as likely."""
    rng = np.random.default_rng(5)
    p = np.round(rng.beta(1.0, 12.0, (n, 1)) * 0.5, 3).clip(0.001)
    return rng.random(p.shape) < factor * p, p, np.arange(n) * (20 * 7 * DAY // n)


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_expected_meets_realised_only_if_probabilities_are_calibrated(factor: float) -> None:
    figures = expected_performance(*rows(factor), (8,))["8"]
    for metric in ("log_loss", "brier"):
        low, high = figures[metric]["difference_ci95"]
        assert (low <= 0.0 <= high) is (factor == 1.0), metric
    assert (abs(figures["expected_calls"] / figures["observed_calls"] - 1.0) < 0.05) is (
        factor == 1.0
    )
    assert figures["blocks"] == 20


def test_realised_figures_are_those_of_scikit_learn() -> None:
    y, p, time = rows(1.0, 3_000)
    figures = expected_performance(y, p, time, (8,))["8"]
    assert figures["log_loss"]["realised"] == pytest.approx(log_loss(y[:, 0], p[:, 0]), rel=1e-9)
    brier = brier_score_loss(y[:, 0], p[:, 0])
    assert figures["brier"]["realised"] == pytest.approx(brier, rel=1e-9)
    assert figures["auc"]["realised"] == pytest.approx(roc_auc_score(y[:, 0], p[:, 0]), rel=1e-9)


def test_expected_figures_follow_their_formulas_on_few_rows() -> None:
    p = np.array([0.1, 0.2, 0.2, 0.7])
    figures = expected_performance(np.zeros((4, 1)), p[:, None], np.arange(4) * DAY * 7, (8,))["8"]
    entropy = -p * np.log(p) - (1.0 - p) * np.log1p(-p)
    assert figures["log_loss"]["expected"] == pytest.approx(entropy.mean())
    assert figures["brier"]["expected"] == pytest.approx((p * (1.0 - p)).mean())
    pairs = [(a, b) for i, a in enumerate(p) for j, b in enumerate(p) if i != j]
    won = sum(a * (1.0 - b) * ((a > b) + 0.5 * (a == b)) for a, b in pairs)
    assert figures["auc"]["expected"] == pytest.approx(won / sum(a * (1.0 - b) for a, b in pairs))
    assert figures["auc"]["realised"] is None, "no row has outcome 1"
    assert figures["auc"]["difference"] is None


def test_one_block_has_no_interval() -> None:
    y, p, time = rows(1.0, 500)
    figures = expected_performance(y, p, time // 40, (8,))["8"]
    assert figures["blocks"] == 1
    assert all(figures[metric]["expected_ci95"] is None for metric in METRICS)


def test_shapes_that_disagree_are_refused() -> None:
    y, p, time = rows(1.0, 50)
    with pytest.raises(ModelError, match=r"\(n, H\)"):
        expected_performance(y, p, time[1:], (8,))
