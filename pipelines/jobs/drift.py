"""What a retraining is held beside: drift since the champion's training, and what would change.

Drift compares the newest account-times with the rows that a bundle was trained on. The change is
that of add-on and probability on one book when the challenger takes the champion's place: a
retraining that moves margin materially is an event of its own for those who post it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from decisions.decision import decide
from decisions.messages import Decision
from features.state.snapshot import MarketSnapshot
from margin.rules.ruleset import RuleSet
from market.core.clock import DAY
from market.core.errors import BundleError, DataError
from models.bundle.bundle import Bundle, load_bundle
from models.forecaster import Forecaster
from pipelines.cli.progress import Stages
from pipelines.config.config import Config
from pipelines.data.accounts import read_dataset, read_intervals
from pipelines.data.decision_dataset import recorded_dataset
from pipelines.data.loaders import Market, read_label_rules, read_market, sample_accounts
from training.drift.monitors import Floors, drift_report
from training.drift.reference import current_profile, read_reference
from training.labels.dataset import Dataset

MATERIAL_TOTAL = 0.05
"""A book's total requirement that moves by more than this share is a change event."""

MATERIAL_ACCOUNT = 0.25
"""So is an add-on that moves by more than this share of initial margin on one account in 20."""

_ACCOUNTS = 2_000


def measure_drift(config: Config, bundle: Bundle, data: Dataset) -> dict[str, Any]:
    """Monitors of a bundle on the newest rows after its training; the object of ``drift --json``.

    A bundle from before there were references or of other horizons, or no row after its training:
    verdict ``unavailable`` with the reason.
    """
    reference = read_reference(bundle)
    named: dict[str, Any] = {"bundle": bundle.sha256}
    if reference is None:
        return named | _unavailable("the bundle carries no reference.json; retrain the model")
    if data.horizons != reference.horizons:
        return named | _unavailable(
            f"the bundle forecasts {list(reference.horizons)} h, [training] horizons are "
            f"{list(data.horizons)}"
        )
    trained_to = int(bundle.manifest["training"]["ends_ns"][1])
    since = max(trained_to, int(data.time[-1]) - config.drift.recent_days * DAY + 1)
    newest = np.flatnonzero(data.time >= since)
    if not len(newest):
        return named | _unavailable("no account-time lies after the rows the bundle learned from")
    settings = config.drift
    report = drift_report(
        reference,
        current_profile(bundle, reference, data.take(newest)),
        Floors(
            settings.distribution, settings.missing, settings.ratio, settings.slope, settings.loss
        ),
        level=settings.level,
        permutations=settings.permutations,
    )
    return named | report.to_dict()


def check_drift(config: Config, path: Path, *, recorded: bool) -> dict[str, Any]:
    """Drift of a bundle on the configured accounts, or on those of recorded decisions.

    Raises
    ------
    DataError
        No account-time can be used.
    BundleError
        There is no such bundle, or it failed its audit.
    """
    with Stages(4) as stages:
        with stages.stage("bundle"):
            bundle = load_bundle(path)
        with stages.stage("features"):
            market = read_market(config)
            ruleset = read_label_rules(config, market)
        with stages.stage("labels"):
            if recorded:
                data = recorded_dataset(config, market, ruleset, bundle)
            else:
                intervals = read_intervals(config, market, ruleset)
                data = read_dataset(config, market, intervals, ruleset)
        with stages.stage("drift"):
            report = measure_drift(config, bundle, data)
    return report | {
        "source": "ledger" if recorded else "data",
        "bars": market.history.report.to_dict(),
    }


def compare_with_champion(
    config: Config, market: Market, ruleset: RuleSet, data: Dataset, champion: str | None, sha: str
) -> dict[str, Any]:
    """Keys ``drift`` and ``change`` of the retraining report; both None before a first champion."""
    if champion is None:
        return {"drift": None, "change": None}
    root = config.serving.bundles
    serving = load_bundle(root / champion)
    change: dict[str, Any] | None = None
    if champion != sha:
        try:
            before, after = Forecaster(serving), Forecaster(load_bundle(root / sha))
        except BundleError as error:  # a champion of an earlier version, on other features
            change = {"material": None, "reason": str(error)}
        else:
            change = margin_change(config, market, ruleset, before, after)
    return {"drift": measure_drift(config, serving, data), "change": change}


def margin_change(
    config: Config, market: Market, ruleset: RuleSet, champion: Forecaster, challenger: Forecaster
) -> dict[str, Any]:
    """What the challenger would ask of one sampled book, beside what the champion asks.

    Every account is seen fresh, without an add-on in force. ``add_on_over_initial_margin`` has
    quantiles over accounts of (challenger − champion) / initial margin; ``probability`` those of
    the difference of the probabilities, and both means. ``material`` says that the total
    requirement (maintenance margin and add-on) moves by more than `MATERIAL_TOTAL`, or that one
    account in 20 moves by more than `MATERIAL_ACCOUNT`.

    Raises
    ------
    DataError
        No account was decided on by both.
    """
    lives = sample_accounts(config, market)
    row = int(lives.opening_row.max())
    closes = market.history.bars.closes
    snapshot = MarketSnapshot.of_history(market.history, market.features, int(closes[row]))
    accounts = lives.book_at(row, market.history.bars.symbols).accounts()[:_ACCOUNTS]
    answers = [decide(accounts, snapshot, ruleset, model, {}) for model in (champion, challenger)]
    both = [
        (before, after)
        for before, after in zip(*answers, strict=True)
        if isinstance(before, Decision)
        and isinstance(after, Decision)
        and before.probability is not None
        and after.probability is not None
        and before.initial_margin > 0.0
    ]
    if not both:
        raise DataError(
            f"champion and challenger cannot be compared: of {len(accounts)} sampled accounts none "
            "with a position got an answer from both models; check the newest bars"
        )
    initial = np.array([before.initial_margin for before, _ in both])
    add_on = np.array([[before.add_on, after.add_on] for before, after in both])
    total = np.array([[d.total_requirement for d in pair] for pair in both]).sum(axis=0)
    shares = (add_on[:, 1] - add_on[:, 0]) / initial
    moved = float(total[1] / total[0] - 1.0)
    spread = _spread(shares)
    return {
        "accounts": len(both),
        "champion": champion.bundle.sha256,
        "challenger": challenger.bundle.sha256,
        "total_requirement": {
            "champion": float(total[0]),
            "challenger": float(total[1]),
            "change": moved,
        },
        "add_on_over_initial_margin": spread,
        "probability": {
            str(hours): _probability_change(both, str(hours))
            for hours in challenger.horizons
            if hours in champion.horizons
        },
        "material": abs(moved) > MATERIAL_TOTAL or spread["q95_absolute"] > MATERIAL_ACCOUNT,
    }


def _probability_change(both: list[tuple[Decision, Decision]], hours: str) -> dict[str, float]:
    p = np.array([[d.probability[hours] for d in pair if d.probability] for pair in both])
    return {
        "champion_mean": float(p[:, 0].mean()),
        "challenger_mean": float(p[:, 1].mean()),
        **_spread(p[:, 1] - p[:, 0]),
    }


def _spread(change: npt.NDArray[np.float64]) -> dict[str, float]:
    return {
        "median": float(np.median(change)),
        "q95_absolute": float(np.quantile(np.abs(change), 0.95)),
    }


def _unavailable(reason: str) -> dict[str, Any]:
    return {"verdict": "unavailable", "reason": reason, "drifted": [], "undecided": []}
