"""Figures of the page of the model: champion beside challenger, and charts of their reviews."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from decisions.decision import NO_BUNDLE
from decisions.errors import NotFoundError
from ledger.audit.browse import newest_of_kind
from ledger.store import Ledger
from market.core.clock import format_time
from market.core.errors import LedgerError, ModelError
from market.core.identity_cache import IdentityCache
from models.bundle.bundle import Bundle
from models.review import MODEL_REVIEW, HorizonReview, Review, SpanSkill, parse_review
from monitoring.champion import Champion
from serving.console.charts import Chart, bar_chart, line_chart, xy_chart

MODEL = "margincast"
"""Name of the model among the baselines, in the manifest and in the frontier."""

ORACLE = "volatility_oracle"

FIGURES = (
    ("log_loss", "Log loss", "lower is better"),
    ("skill", "Skill over the best baseline", "1 - log loss over that of the best baseline"),
    ("brier_skill", "Brier skill", "over the base rate"),
    ("auc", "AUC", ""),
    ("average_precision", "Average precision", ""),
    ("ece", "Calibration error (ECE)", "0 is calibrated"),
    ("calibration_slope", "Calibration slope", "1 is calibrated"),
    ("calibration_intercept", "Calibration intercept", "0 is calibrated"),
    ("top_decile_ratio", "Predicted over observed, top decile", "1 is calibrated"),
)
"""Key, name and meaning of the rows of the comparison."""

_NO_BASELINES = (MODEL, ORACLE, "lightgbm_plain_forecast")

MOST_CONTRIBUTIONS = 15
FRONTIER = (MODEL, "flat", "sigma_forecast", "emir_buffer", ORACLE)
"""Policies of the chart; the table of the chart's data has the same."""

MOST_REVIEWS = 64
"""Reviews on record among which that of a bundle is looked for, the newest first."""

_reviews = IdentityCache[Review](4)


def side(
    name: str, champion: Champion, ledger: Ledger, *, optional: bool = False
) -> dict[str, Any]:
    """What the page says of a bundle: identity, training, problem; `bundle` None without one.

    That none was ever promoted is a problem only where the bundle is not `optional`.
    """
    missing = optional and champion.health_error == NO_BUNDLE
    said: dict[str, Any] = {
        "name": name,
        "bundle": None,
        "problem": None if missing else champion.health_error,
        "absent": "none" if missing else champion.unavailable_reason,
        "review": None,
        "review_problem": None,
    }
    if champion.model is None:
        return said
    bundle = champion.model.bundle
    training = bundle.manifest["training"]
    try:
        said["review"] = review_of(bundle, ledger)
    except NotFoundError:
        pass  # of an earlier version, or trained beside another ledger: the page says so
    except (ModelError, LedgerError) as error:
        said["review_problem"] = str(error)
    return said | {
        "bundle": bundle,
        "sha": bundle.sha256,
        "span": _span(training),
        "rows": training.get("rows", {}),
        "event": training.get("event", "call"),
        "ruleset": bundle.manifest["ruleset_sha256"],
        "data": bundle.manifest["training_data_sha256"],
        "horizons": list(bundle.schema.horizons),
        "features": len(bundle.schema.features),
        "versions": bundle.manifest["versions"],
    }


def review_of(bundle: Bundle, ledger: Ledger) -> Review:
    """The newest review of a bundle on record, read once.

    Raises
    ------
    NotFoundError
        None of the newest `MOST_REVIEWS` is of it.
    ModelError
        It cannot be read, see `models.review.parse_review`.
    LedgerError
        The ledger cannot be read, or a review on record was altered.
    """

    def find() -> Review:
        for record in newest_of_kind(ledger, MODEL_REVIEW, MOST_REVIEWS):
            if record.payload.get("bundle") == bundle.sha256:
                return parse_review(record.payload, bundle)
        raise NotFoundError(f"no review of bundle {bundle.sha256} is on record")

    return _reviews.get((bundle,), find)


def comparison(sides: list[dict[str, Any]], hours: int) -> list[dict[str, Any]]:
    """A row for each of `FIGURES`, with a value for each side; None where one lacks the figure."""
    figures = [evaluated(each["bundle"], hours) for each in sides]
    return [
        {"name": name, "note": note, "values": [figure.get(key) for figure in figures]}
        for key, name, note in FIGURES
    ]


def evaluated(bundle: Bundle | None, hours: int) -> dict[str, float | None]:
    """The model's figures on its test rows, and `skill` over the baseline of lowest log loss."""
    models = _models(bundle, hours)
    figures = models.get(MODEL) or {}
    best = best_baseline(models)
    if best is None or not _has_loss(figures):
        return dict(figures)
    return {**figures, "skill": 1.0 - figures["log_loss"] / models[best]["log_loss"]}


def best_baseline(models: Mapping[str, Any]) -> str | None:
    """The baseline with the lowest log loss; the model, the oracle and plain LightGBM that reads
    the volatility forecast are reported beside the baselines and are none."""
    losses = {
        name: figures["log_loss"]
        for name, figures in models.items()
        if _has_loss(figures) and name not in _NO_BASELINES
    }
    return min(losses, key=lambda name: losses[name]) if losses else None


def baselines(bundle: Bundle | None, hours: int) -> list[dict[str, Any]]:
    """A row for the model, each baseline and the oracle, the lowest log loss first."""
    models = _models(bundle, hours)
    best = best_baseline(models)
    kinds = {MODEL: "the model", ORACLE: "oracle, knows the volatility to come"}
    rows = [
        {"name": name, "kind": kinds.get(name, "best baseline" if name == best else ""), **figures}
        for name, figures in models.items()
        if _has_loss(figures)
    ]
    return sorted(rows, key=lambda row: row["log_loss"])


def review_charts(sides: list[dict[str, Any]], hours: int) -> dict[str, Chart]:
    """Charts of the reviews that the sides have; a chart without data is left out."""
    found = {
        each["name"]: each["review"].horizons[hours]
        for each in sides
        if each["review"] is not None and hours in each["review"].horizons
    }
    charts: dict[str, Chart] = {}
    if not found:
        return charts
    charts["reliability"] = _reliability(found, hours)
    for part, title in (("months", "by month of the test rows"), ("blocks", "walk-forward")):
        spans = {name: getattr(figures, part) for name, figures in found.items()}
        if any(spans.values()):
            charts[part] = _skill(f"Skill over the best baseline, {title}, {hours} h", spans)
    first = next(iter(found.values()))
    if first.contributions:
        charts["contributions"] = _contributions(next(iter(found)), first, hours)
    return charts


def frontier_chart(review: Review) -> Chart | None:
    """Average add-on against uncovered loss of the main policies; None without a backtest."""
    lines = {
        name.replace("_", " "): review.frontier[name]
        for name in FRONTIER
        if name in review.frontier
    }
    if not lines:
        return None
    return xy_chart(
        "Add-on frontier: uncovered loss at each average add-on, shares of gross notional",
        lines,
        x_title="average add-on",
        y_title="uncovered loss",
        log_y=True,
        formats=(".1%", "~%"),
    )


def _reliability(found: Mapping[str, HorizonReview], hours: int) -> Chart:
    lines: dict[str, list[tuple[float, float]]] = {}
    intervals: dict[str, list[tuple[float, float] | None]] = {}
    for name, figures in found.items():
        rows = [row for row in reliability_rows(figures) if row["predicted"] > 0.0]
        some = [row for row in rows if row["observed"] > 0.0]
        lines[name] = [(row["predicted"], row["observed"]) for row in some]
        intervals[name] = [(row["low"], row["high"]) for row in some]
        none = [(row["predicted"], row["high"]) for row in rows if row["observed"] == 0.0]
        if none:
            lines[f"{name}: no call, at most (95%)"] = none
    ends = [value for points in lines.values() for point in points for value in point]
    if ends:
        lines["calibrated"] = [(min(ends), min(ends)), (max(ends), max(ends))]
    return xy_chart(
        f"Reliability, {hours} h: observed share against mean probability of each bin, 95%",
        lines,
        x_title="mean probability",
        y_title="observed share",
        log_x=True,
        log_y=True,
        formats=("~%", "~%"),
        intervals=intervals,
    )


def reliability_rows(review: HorizonReview) -> list[dict[str, Any]]:
    """The bins with their intervals, in rising order of the probability."""
    bins = review.reliability
    keys = ("predicted", "observed", "low", "high", "count")
    columns = (bins.predicted, bins.observed, bins.low, bins.high, bins.count)
    return [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]


def _skill(title: str, spans: Mapping[str, Mapping[str, SpanSkill]]) -> Chart:
    places = sorted({place for found in spans.values() for place in found})
    known = {name: [found.get(place) for place in places] for name, found in spans.items()}
    return line_chart(
        f"{title}, 95%",
        [place[:10] for place in places],
        {
            name: [None if one is None else one.log_loss_skill for one in row]
            for name, row in known.items()
        },
        y_title="skill",
        y_format=".1%",
        intervals={
            name: [None if one is None else one.log_loss_skill_ci95 for one in row]
            for name, row in known.items()
        },
    )


def _contributions(name: str, figures: HorizonReview, hours: int) -> Chart:
    largest = sorted(figures.contributions.items(), key=lambda item: -item[1])[:MOST_CONTRIBUTIONS]
    return bar_chart(
        f"Mean absolute contribution by feature, {name}, {hours} h, log odds, "
        f"{len(largest)} largest",
        [name for name, _ in largest],
        [value for _, value in largest],
        y_title="log odds",
        horizontal=True,
    )


def _has_loss(figures: Mapping[str, Any]) -> bool:
    loss = figures.get("log_loss")
    return isinstance(loss, float) and loss > 0.0


def _models(bundle: Bundle | None, hours: int) -> dict[str, Any]:
    if bundle is None:
        return {}
    by_name: dict[str, Any] = bundle.manifest["metrics"].get(str(hours), {})
    return {name: figures for name, figures in by_name.items() if isinstance(figures, dict)}


def _span(training: Mapping[str, Any]) -> list[str]:
    if "span_ns" in training:
        return [format_time(time) for time in training["span_ns"]]
    return list(training.get("span", ()))
