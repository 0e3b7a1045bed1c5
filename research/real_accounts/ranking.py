"""Where real liquidations stand among all account-times, and how long before they were seen.

Liquidations of one UTC day share one market, so intervals of shares of liquidations are Wilson's at
their number over the design effect of days, and those of means draw whole days. One account can be
liquidated many times and its hours resemble each other, so intervals of the area under the curve
draw whole accounts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from market.core.clock import HOUR
from research.real_accounts.scored_rows import AccountIndex, Floats, Ints, ScoredRows
from training.evaluation.bootstrap import utc_day
from training.evaluation.curves import design_effect, wilson_interval
from training.evaluation.evaluate import MODEL

LEADS = (1, 8, 24)
"""Hours before a liquidation at which accounts are looked at."""

BUDGETS = (0.01, 0.02, 0.05, 0.1)
"""Shares of all account-times that may be alerted."""

THRESHOLDS = (0.02, 0.05, 0.1, 0.3, 0.5)
"""Probabilities of a call within 24 h, for the lead time; the first is the default p*."""

LEAST_CONTROLS = 10.0
"""Account-times without a liquidation within 24 h for each with one, below which there is no
ranking among the accounts: the tables hold hardly an account that stayed healthy."""

RESAMPLES = 400
_SEED = 14


def discrimination(rows: ScoredRows, horizon: int) -> dict[str, Any]:
    """Area under the curve, alert recall and counts at one horizon, for every model.

    Rows are account-times with a known outcome; positive are those with a liquidation of the
    account in ``(t, t + h]``. `alerts`: by budget b the share of liquidations with at least one
    account-time in the h hours before whose probability is among the b highest of all.
    """
    known = rows.known(horizon)
    data = rows.data
    account, time = data.account[known], data.time[known]
    positive = rows.liquidations.within(account, time, horizon)
    static = data.labels[known, data.horizons.index(horizon)].astype(bool)
    ranked = has_controls(rows) and 0 < positive.sum() < len(positive)
    models = {name: p[known] for name, p in rows.models[horizon].items()}
    index = AccountIndex(account, time)
    windows = [
        (t, window)
        for a, t in rows.liquidations.pairs()
        for window in [index.rows(a, t - horizon * HOUR - 1, t - 1)]
        if len(window)
    ]
    weights = account_weights(account, RESAMPLES) if ranked else np.empty((0, len(account)))
    areas = {
        name: np.array([area_under_curve(positive, p, w) for w in weights])
        for name, p in models.items()
    }
    figures: dict[str, Any] = {}
    for name, p in models.items():
        own: dict[str, Any] = {
            "mean": float(p.mean()),
            "predicted_over_liquidated": _ratio(float(p.sum()), float(positive.sum())),
            "predicted_over_liquidated_ci95": interval(_ratios(weights @ p, weights @ positive))
            if ranked
            else None,
        }
        if ranked:
            own["auc"] = area_under_curve(positive, p, np.ones(len(p)))
            own["auc_ci95"] = interval(areas[name])
            if name != MODEL:
                own["auc_below_model_ci95"] = interval(areas[MODEL] - areas[name])
            own["alerts"] = {str(b): _alerted(p, windows, b) for b in BUDGETS}
        figures[name] = own
    return {
        "rows": int(known.sum()),
        "positives": int(positive.sum()),
        "liquidations_seen": len(windows),
        "liquidated_share": float(positive.mean()),
        "computed_breach_share": float(static.mean()),
        "models": figures,
    }


def before_liquidation(
    rows: ScoredRows,
    reference: Mapping[int, Mapping[str, Floats]],
    why: Sequence[Mapping[int, str]],
) -> dict[str, Any]:
    """Probability and rank of the accounts 1, 8 and 24 hours before each liquidation.

    At lead k the newest decision time at or before ``T − k h`` counts, with the probability at
    horizon k. `rank` is the share of all account-times with a lower one (ties count half), among
    these accounts and among the `reference` population. `why` says of each liquidation and lead
    why an account without such a row has none.
    """
    found: dict[str, Any] = {}
    index = AccountIndex(rows.data.account, rows.data.time)
    for lead in LEADS:
        known = rows.known(lead)
        at = [row_before(index, a, t - lead * HOUR) for a, t in rows.liquidations.pairs()]
        chosen = np.array([row for row in at if row is not None], dtype=np.int64)
        day = utc_day(
            [t for row, t in zip(at, rows.liquidations.time, strict=True) if row is not None]
        )
        missing = Counter(reason[lead] for row, reason in zip(at, why, strict=True) if row is None)
        figures: dict[str, Any] = {}
        for name, p in rows.models[lead].items():
            own = p[chosen]
            of_these = ranks(own, p[known])
            of_reference = ranks(own, reference[lead][name])
            figures[name] = {
                "probability": quantiles(own),
                "rank": quantiles(of_these),
                "mean_rank_ci95": mean_interval(of_these, day),
                "reference_rank": quantiles(of_reference),
                "mean_reference_rank_ci95": mean_interval(of_reference, day),
            }
        found[str(lead)] = {"scored": len(chosen), "missing": dict(missing), "models": figures}
    return found


def lead_times(rows: ScoredRows) -> dict[str, Any]:
    """How long before each liquidation the probability of a call within 24 h was over thresholds.

    Only the run of consecutive decision times that leads to the liquidation counts: a gap of over
    an hour means that the account was flat or not priced. `first` is the time from the first
    decision over the threshold to the liquidation, `lasting` that from the decision since which it
    never fell below. `alerted` counts liquidations that were over it at all before; `in_vain` the
    share of all runs of all accounts that were over it and ended without liquidation, and
    `account_times` the share of account-times over it.
    """
    p, time = rows.models[LEADS[-1]][MODEL], rows.data.time
    index, run = AccountIndex(rows.data.account, time), runs_of(rows.data.account, time)
    before: list[tuple[int, Ints]] = []  # liquidations and the rows of the run that leads there
    for a, t in rows.liquidations.pairs():
        row = row_before(index, a, t - 1)
        if row is not None:
            own = index.rows(a, until=t - 1)
            before.append((t, own[run[own] == run[row]]))
    times = [t for t, _ in before]
    highest = np.full(int(run.max()) + 1, -np.inf)
    np.maximum.at(highest, run, p)
    quiet = np.delete(highest, [run[own[-1]] for _, own in before])
    found: dict[str, Any] = {
        "liquidations": len(rows.liquidations),
        "scored": len(before),
        "hours_open": quantiles(np.array([(t - int(time[own[0]])) / HOUR for t, own in before])),
    }
    for threshold in THRESHOLDS:
        first, lasting = [], []
        for t, own in before:
            over = p[own] > threshold
            if over.any():
                first.append((t - int(time[own[over][0]])) / HOUR)
            if over[-1]:
                under = np.flatnonzero(~over)
                since = own[under[-1] + 1] if len(under) else own[0]
                lasting.append((t - int(time[since])) / HOUR)
        found[str(threshold)] = {
            "alerted": clustered_share(
                [bool((p[own] > threshold).any()) for _, own in before], times
            ),
            "first_hours": quantiles(np.array(first)),
            "lasting": clustered_share([bool(p[own[-1]] > threshold) for _, own in before], times),
            "lasting_hours": quantiles(np.array(lasting)),
            "runs_in_vain": share(int((quiet > threshold).sum()), len(quiet)),
            "account_times": float((p > threshold).mean()),
        }
    return found


def has_controls(rows: ScoredRows) -> bool:
    """Whether the accounts hold enough hours that no liquidation followed, see `LEAST_CONTROLS`."""
    horizon = LEADS[-1]
    known = rows.known(horizon)
    followed = rows.liquidations.within(rows.data.account[known], rows.data.time[known], horizon)
    return bool((~followed).sum() >= LEAST_CONTROLS * followed.sum())


def row_before(index: AccountIndex, account: int, time: int) -> int | None:
    """Row of an account's newest decision within the hour up to and at `time`; None if none."""
    own = index.rows(account, time - HOUR, time)
    return int(own[-1]) if len(own) else None


def runs_of(account: Ints, time: Ints) -> Ints:
    """Number of the run of consecutive hours of one account that each row belongs to, shape
    (N,); rows are sorted by time and account."""
    order = np.lexsort((time, account))
    new = np.r_[True, (np.diff(account[order]) != 0) | (np.diff(time[order]) > HOUR)]
    run = np.empty(len(order), dtype=np.int64)
    run[order] = np.cumsum(new) - 1
    return run


def area_under_curve(positive: npt.NDArray[np.bool_], p: Floats, weight: Floats) -> float:
    """Weighted area under the ROC curve, ties counting half; NaN with one class only.

    Hanley and McNeil (1982), Radiology 143, 29-36.
    """
    level, code = np.unique(p, return_inverse=True)
    hits = np.bincount(code, weights=weight * positive, minlength=len(level))
    others = np.bincount(code, weights=weight * ~positive, minlength=len(level))
    total = hits.sum() * others.sum()
    below = np.cumsum(others) - others
    return float((hits * (below + 0.5 * others)).sum() / total) if total > 0.0 else float("nan")


def account_weights(account: Ints, resamples: int) -> Floats:
    """Weights of rows when whole accounts are drawn with replacement, (resamples, N)."""
    _, code = np.unique(account, return_inverse=True)
    count = int(code.max()) + 1
    rng = np.random.default_rng(_SEED)
    drawn = rng.multinomial(count, np.full(count, 1.0 / count), size=resamples)
    return drawn[:, code].astype(np.float64)


def ranks(values: Floats, sample: Floats) -> Floats:
    """Share of a sample below each value, ties counting half."""
    ordered = np.sort(sample)
    low, high = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return np.asarray((low + high) / (2.0 * len(ordered)))


def share(count: int, total: int) -> dict[str, Any]:
    """A share with Wilson's interval, null without trials."""
    if not total:
        return {"count": count, "of": 0, "share": None, "ci95": None}
    part = count / total
    return {"count": count, "of": total, "share": part, "ci95": wilson_interval(part, total)}


def clustered_share(happened: Sequence[bool], time: Sequence[int]) -> dict[str, Any]:
    """A share of liquidations with Wilson's interval at their number over the design effect of
    days; `time` in nanoseconds."""
    result = share(sum(map(bool, happened)), len(happened))
    if happened:
        effect = design_effect(np.array(happened, dtype=np.float64), utc_day(time))
        result["ci95"] = wilson_interval(result["share"], len(happened) / effect)
    return result


def quantiles(values: Floats) -> dict[str, float] | None:
    """Lower quartile, median, upper quartile and mean; null without values."""
    if not len(values):
        return None
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {"q25": low, "median": middle, "q75": high, "mean": float(values.mean())}


def interval(draws: Floats) -> tuple[float, float] | None:
    """95% percentile interval of resamples; those without both classes are left out."""
    draws = draws[np.isfinite(draws)]
    if not len(draws):
        return None
    low, high = np.quantile(draws, (0.025, 0.975)).tolist()
    return low, high


def mean_interval(values: Floats, group: Ints | None = None) -> tuple[float, float] | None:
    """95% bootstrap interval of a mean over groups drawn whole, (N,), or over independent values;
    null below two groups."""
    code = np.arange(len(values)) if group is None else np.unique(group, return_inverse=True)[1]
    count = int(code.max()) + 1 if len(code) else 0
    if count < 2:
        return None
    rng = np.random.default_rng(_SEED)
    drawn = rng.multinomial(count, np.full(count, 1.0 / count), size=RESAMPLES)
    sums, sizes = np.bincount(code, weights=values), np.bincount(code)
    return interval((drawn @ sums) / (drawn @ sizes))


def _alerted(p: Floats, windows: Sequence[tuple[int, Ints]], budget: float) -> dict[str, Any]:
    level = float(np.quantile(p, 1.0 - budget))
    caught = [bool((p[window] > level).any()) for _, window in windows]
    return {"level": level, **clustered_share(caught, [t for t, _ in windows])}


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator > 0.0 else None


def _ratios(numerator: Floats, denominator: Floats) -> Floats:
    """Ratios; NaN without a denominator."""
    ratio = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=ratio, where=denominator > 0.0)
    return ratio
