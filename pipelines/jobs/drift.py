"""Drift since the champion's training, and the change of margin under the challenger.

Drift compares the newest account-times with the rows that a bundle was trained on. The change is
that of add-on and probability on one sampled book if the challenger replaces the champion: clients
have to fund a material change of margin, whatever its cause, so one that exceeds the limit of the
rule set needs ``margincast promote``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from decisions.decision import decide
from decisions.messages import Decision
from ledger.records import Entry
from ledger.store import Ledger
from margin.rules.ruleset import RuleSet
from market.core.clock import DAY
from market.core.errors import BundleError, DataError
from models.bundle.bundle import Bundle, load_bundle
from models.bundle.pointer import CHAMPION, read_pointer
from models.forecaster import Forecaster
from pipelines.cli.progress import Stages
from pipelines.config.config import Config
from pipelines.data.accounts import read_dataset, read_intervals, sample_book
from pipelines.data.decision_dataset import recorded_dataset
from pipelines.data.loaders import Market, describe, describe_rules, read_label_rules, read_market
from training.drift.detail import distribution_detail
from training.drift.monitors import Floors, drift_report
from training.drift.performance import expected_performance
from training.drift.reference import current_profile, read_reference
from training.evaluation.evaluate import model_columns
from training.labels.dataset import Dataset

MATERIAL_ACCOUNT = 0.25
"""Share of initial margin above which a change of the add-on of one account in 20 is material."""

_ACCOUNTS = 2_000


def measure_drift(
    config: Config, bundle: Bundle, data: Dataset, *, detail: bool = False
) -> dict[str, Any]:
    """Monitors of a bundle on the newest rows after its training; the object of ``drift --json``.

    With `detail` also ``distributions``, with the bins and weeks of each column, and
    ``expected_performance``, which are for readers.

    The verdict is ``unavailable``, with the reason, if the bundle has no reference or other
    horizons, or no row is later than its training.
    """
    reference, settings = read_reference(bundle), config.drift
    if reference is None:
        return _unavailable(bundle, "the bundle carries no reference.json; retrain the model")
    if data.horizons != reference.horizons:
        return _unavailable(
            bundle,
            f"the bundle forecasts {list(reference.horizons)} h, [training] horizons are "
            f"{list(data.horizons)}",
        )
    training_end = int(bundle.manifest["training"]["ends_ns"][1])
    since = max(training_end, int(data.time[-1]) - settings.recent_days * DAY + 1)
    newest = np.flatnonzero(data.uniform & (data.time >= since))
    if not len(newest):
        return _unavailable(bundle, "no account-time is later than the training rows of the bundle")
    rows = data.take(newest)
    current = current_profile(bundle, reference, rows)
    report = drift_report(
        reference,
        current,
        Floors(
            settings.distribution, settings.missing, settings.ratio, settings.slope, settings.loss
        ),
        level=settings.level,
        permutations=settings.permutations,
    )
    found = {"bundle": bundle.sha256} | report.to_dict()
    if not detail:
        return found
    p = bundle.scorer.probability(rows.features[:, model_columns(bundle.schema, rows)])
    return found | {
        "distributions": distribution_detail(reference, current),
        "expected_performance": expected_performance(
            rows.labels, p, rows.time, reference.horizons, reference.days
        ),
    }


def check_drift(config: Config, path: Path, *, recorded: bool) -> dict[str, Any]:
    """Drift of a bundle on the configured accounts, or on those of recorded decisions.

    The verdict on the champion is recorded in the ledger, where the endpoint's metrics find it.

    Raises
    ------
    DataError
        No account-time can be used.
    BundleError
        There is no such bundle, or it failed its audit.
    LedgerError
        The verdict cannot be recorded.
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
            report = measure_drift(config, bundle, data, detail=True)
    report["source"] = "ledger" if recorded else "data"
    report["data"] = dict(describe(config, market))
    report["data_sha256"] = data.sha256()
    report["ruleset"] = describe_rules(ruleset)
    if bundle.sha256 == read_pointer(config.serving.bundles, CHAMPION):
        keys = ("verdict", "bundle", "drifted", "undecided", "source")
        with Ledger(config.ledger.url, chain="registry") as ledger:
            ledger.append([Entry(kind="drift", payload={key: report[key] for key in keys})])
    return report | {"bars": market.history.report.to_dict()}


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
    """Requirements of one sampled book under the challenger against those under the champion.

    No account has a previous add-on. ``add_on_over_initial_margin`` has quantiles over accounts of
    (challenger - champion) / initial margin; ``probability`` those of the difference of the
    probabilities, and both means. ``material`` is true if the total requirement (maintenance
    margin plus add-on) changes by more than the rule set's ``[promotion]
    max_requirement_change``, or the add-on of one account in 20 by more than `MATERIAL_ACCOUNT`.

    Raises
    ------
    DataError
        No account has a decision from both.
    """
    accounts, snapshot = sample_book(config, market, _ACCOUNTS)
    outcomes = [decide(accounts, snapshot, ruleset, model, {}) for model in (champion, challenger)]
    both = [
        (before, after)
        for before, after in zip(*outcomes, strict=True)
        if isinstance(before, Decision)
        and isinstance(after, Decision)
        and before.probability is not None
        and after.probability is not None
        and before.initial_margin > 0.0
    ]
    if not both:
        raise DataError(
            f"champion and challenger cannot be compared: of {len(accounts)} sampled accounts none "
            "with a position has a decision from both models; check the newest bars"
        )
    initial = np.array([before.initial_margin for before, _ in both])
    add_on = np.array([[before.add_on, after.add_on] for before, after in both])
    total = np.array([[d.total_requirement for d in pair] for pair in both]).sum(axis=0)
    shares = (add_on[:, 1] - add_on[:, 0]) / initial
    change = float(total[1] / total[0] - 1.0)
    spread = _spread(shares)
    limit = ruleset.promotion_or_default.max_requirement_change
    return {
        "accounts": len(both),
        "champion": champion.bundle.sha256,
        "challenger": challenger.bundle.sha256,
        "total_requirement": {
            "champion": float(total[0]),
            "challenger": float(total[1]),
            "change": change,
        },
        "add_on_over_initial_margin": spread,
        "probability": {
            str(hours): _probability_change(both, str(hours))
            for hours in challenger.horizons
            if hours in champion.horizons
        },
        "material": abs(change) > limit or spread["q95_absolute"] > MATERIAL_ACCOUNT,
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


def _unavailable(bundle: Bundle, reason: str) -> dict[str, Any]:
    verdict: dict[str, Any] = {"verdict": "unavailable", "reason": reason}
    return {"bundle": bundle.sha256} | verdict | {"drifted": [], "undecided": []}
