"""Drift monitors: are features, scores and outcomes still as in training?

A monitor alarms only if its effect reaches a floor *and* chance does not explain it. The floor
comes first: in a large sample every difference is significant, and most are of no consequence.
Chance is the exchange of runs of weeks between the two spans (`training.drift.permutation`), with
Holm's correction within each kind of monitor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from market.core.clock import format_time
from market.core.errors import ModelError
from models.drift import distances
from training.drift import statistics as stat
from training.drift.permutation import (
    PERMUTATIONS,
    Effect,
    Exchanges,
    longest_run,
)
from training.drift.reference import Profile, Reference
from training.evaluation.bootstrap import holm_adjusted

Floats = npt.NDArray[np.float64]
Kind = Literal["feature", "missing", "score", "labels"]
Verdict = Literal["stable", "drift", "undecided"]


@dataclass(frozen=True, slots=True)
class Floors:
    """Effects under which nothing is an alarm, however significant.

    Attributes
    ----------
    distribution:
        Kolmogorov-Smirnov distance of a feature or a score.
    missing:
        Change of a feature's share of missing rows.
    ratio:
        Factor by which the mean probability, or observed over predicted calls, changed; the
        default is the calibration gate's.
    slope:
        Change of the calibration slope; the default is the gate's.
    loss:
        Log of the factor by which the log loss over its expectation changed.
    """

    distribution: float = 0.1
    missing: float = 0.05
    ratio: float = 1.25
    slope: float = 0.1
    loss: float = 0.1


@dataclass(frozen=True, slots=True)
class Monitor:
    """One comparison.

    Attributes
    ----------
    name, kind:
        What is compared.
    reference, current:
        The figure of each span: for distributions the median bin as a quantile of the reference,
        else the figure itself; None where undefined.
    effect, floor:
        How far apart they are, at least 0, and from where it matters. Effect None: undefined.
    p_value, p_holm:
        Of the exchange of blocks, alone and within its kind.
    stability_index:
        Of distributions, for the reader.
    verdict:
        ``drift``: the effect reaches its floor and chance does not explain it. ``undecided``: it
        reaches its floor, but so few blocks can prove nothing. Else ``stable``.
    """

    name: str
    kind: Kind
    reference: float | None
    current: float | None
    effect: float | None
    floor: float
    p_value: float
    p_holm: float
    stability_index: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class DriftReport:
    """All monitors of a model on a span.

    Attributes
    ----------
    verdict:
        ``drift`` if any monitor says so, else ``undecided`` if any does, else ``stable``.
    monitors:
        By kind, in the order of the columns.
    reference, current:
        Spans, rows and blocks.
    block_days, runs, permutations, level:
        Settings of the permutation; `runs` has the blocks that were exchanged together, by kind.
    """

    verdict: Verdict
    monitors: tuple[Monitor, ...]
    reference: Mapping[str, Any]
    current: Mapping[str, Any]
    block_days: int
    runs: Mapping[str, int]
    permutations: int
    level: float

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON."""
        return {
            "verdict": self.verdict,
            "drifted": [m.name for m in self.monitors if m.verdict == "drift"],
            "undecided": [m.name for m in self.monitors if m.verdict == "undecided"],
            "reference": dict(self.reference),
            "current": dict(self.current),
            "block_days": self.block_days,
            "runs": dict(self.runs),
            "permutations": self.permutations,
            "level": self.level,
            "monitors": {m.name: asdict(m) for m in self.monitors},
        }


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Sums of both sides and how they are compared; figure gives the reader's numbers."""

    name: str
    reference: Floats
    current: Floats
    effect: Effect
    floor: float
    figure: Callable[[Floats], Floats]
    binned: bool = False


def drift_report(
    reference: Reference,
    current: Profile,
    floors: Floors | None = None,
    *,
    level: float = 0.05,
    permutations: int = PERMUTATIONS,
    seed: int = 1,
) -> DriftReport:
    """Compare a span with the rows of training.

    Parameters
    ----------
    reference, current:
        The same columns in the same bins.
    floors:
        Smallest effects; None for the defaults.
    level:
        Largest adjusted p-value of an alarm: the chance of a false one in each kind of monitor.
    permutations, seed:
        Exchanges of blocks.

    Raises
    ------
    ModelError
        The profile is of other columns, or the level is not between 0 and 1.
    """
    least = floors or Floors()
    before, now = reference.profile.histograms, current.histograms
    if before.counts.shape[1] != now.counts.shape[1]:
        raise ModelError(
            f"the reference has {before.counts.shape[1]} columns, the span {now.counts.shape[1]}; "
            "compare spans of one model"
        )
    if not 0.0 < level < 1.0:
        raise ModelError(f"drift level {level!r} is not between 0 and 1; 0.05 is usual")
    features = len(reference.columns) - len(reference.horizons)
    sides = (len(before.block), len(now.block))
    families: list[tuple[Kind, tuple[int, int], list[_Comparison]]] = [
        ("feature", sides, list(_distributions(reference, current, range(features), least))),
        ("missing", sides, list(_missing(reference, current, range(features), least))),
        ("score", sides, list(_scores(reference, current, features, least))),
    ]
    if reference.profile.outcomes is not None and current.outcomes is not None:
        matured = len(reference.profile.outcomes.block), len(current.outcomes.block)
        families.append(("labels", matured, list(_labels(reference, current, least))))
    monitors: list[Monitor] = []
    runs: dict[str, int] = {}
    for kind, (old, new), comparisons in families:
        runs[kind] = longest_run(old, new, len(comparisons), level, permutations)
        exchanges = Exchanges(old, new, runs[kind], permutations, seed=seed)
        monitors += _monitors(kind, comparisons, exchanges, level)
    verdicts = {monitor.verdict for monitor in monitors}
    worst: Verdict = (
        "drift" if "drift" in verdicts else "undecided" if "undecided" in verdicts else "stable"
    )
    return DriftReport(
        worst,
        tuple(monitors),
        _span_summary(reference.profile),
        _span_summary(current),
        reference.days,
        runs,
        permutations,
        level,
    )


def _distributions(
    reference: Reference, current: Profile, columns: range, floors: Floors
) -> Iterator[_Comparison]:
    for c in columns:
        before = reference.profile.histograms.counts[:, c, :-1].astype(np.float64)
        edges = max(1, len(reference.edges[c]))

        def middle(counts: Floats, edges: int = edges) -> Floats:
            half = np.cumsum(counts, axis=-1) >= 0.5 * counts.sum(axis=-1, keepdims=True)
            return np.asarray(half.argmax(axis=-1) / edges, dtype=np.float64)

        yield _Comparison(
            reference.columns[c],
            before,
            current.histograms.counts[:, c, :-1].astype(np.float64),
            distances.ks_distance,
            floors.distribution,
            middle,
            binned=True,
        )


def _missing(
    reference: Reference, current: Profile, columns: range, floors: Floors
) -> Iterator[_Comparison]:
    for c in columns:
        yield _Comparison(
            f"missing_{reference.columns[c]}",
            reference.profile.histograms.counts[:, c].astype(np.float64),
            current.histograms.counts[:, c].astype(np.float64),
            _absolute_difference(distances.missing_share),
            floors.missing,
            distances.missing_share,
        )


def _scores(
    reference: Reference, current: Profile, first: int, floors: Floors
) -> Iterator[_Comparison]:
    yield from _distributions(reference, current, range(first, len(reference.columns)), floors)
    for h, hours in enumerate(reference.horizons):
        sides = [
            np.column_stack([part.histograms.counts[:, 0].sum(axis=-1), part.expected[:, h]])
            for part in (reference.profile, current)
        ]
        yield _Comparison(
            f"mean_probability_{hours}h",
            sides[0],
            sides[1],
            _absolute_difference(stat.log_mean),
            float(np.log(floors.ratio)),
            lambda sums: np.exp(stat.log_mean(sums)),
        )


def _labels(reference: Reference, current: Profile, floors: Floors) -> Iterator[_Comparison]:
    if reference.profile.outcomes is None or current.outcomes is None:
        return
    figures: tuple[tuple[str, Callable[[Floats], Floats], float, bool], ...] = (
        (
            "observed_over_predicted",
            stat.log_observed_over_predicted,
            float(np.log(floors.ratio)),
            True,
        ),
        ("calibration_slope", stat.one_step_slope, floors.slope, False),
        ("loss_over_expected", stat.log_loss_over_expected, floors.loss, True),
    )
    for h, hours in enumerate(reference.horizons):
        for name, figure, floor, is_log in figures:
            yield _Comparison(
                f"{name}_{hours}h",
                reference.profile.outcomes.sums[:, h],
                current.outcomes.sums[:, h],
                _absolute_difference(figure),
                floor,
                _exponential(figure) if is_log else figure,
            )


def _absolute_difference(figure: Callable[[Floats], Floats]) -> Effect:
    return lambda reference, current: np.abs(figure(current) - figure(reference))


def _exponential(figure: Callable[[Floats], Floats]) -> Callable[[Floats], Floats]:
    return lambda sums: np.exp(figure(sums))


def _monitors(
    kind: Kind, comparisons: list[_Comparison], exchanges: Exchanges, level: float
) -> list[Monitor]:
    """All monitors of one kind: one family for Holm's correction."""
    effects = {c.name: exchanges.p_value(c.reference, c.current, c.effect) for c in comparisons}
    adjusted = holm_adjusted({name: p for name, (_, p) in effects.items()})
    provable = len(comparisons) * exchanges.smallest_p <= level
    monitors = []
    for c in comparisons:
        effect, p = effects[c.name]
        sides = c.reference.sum(axis=0), c.current.sum(axis=0)
        verdict: Verdict = "stable"
        if effect >= c.floor:  # NaN is not
            if adjusted[c.name] <= level:
                verdict = "drift"
            elif not provable:
                verdict = "undecided"
        monitors.append(
            Monitor(
                c.name,
                kind,
                _finite(c.figure(sides[0])),
                _finite(c.figure(sides[1])),
                _finite(effect),
                c.floor,
                p,
                adjusted[c.name],
                _finite(distances.stability_index(*sides)) if c.binned else None,
                verdict,
            )
        )
    return monitors


def _span_summary(profile: Profile) -> dict[str, Any]:
    return {
        "span": [format_time(profile.span[0]), format_time(profile.span[1])],
        "rows": profile.rows,
        "blocks": len(profile.histograms.block),
        "matured_blocks": 0 if profile.outcomes is None else len(profile.outcomes.block),
    }


def _finite(value: npt.ArrayLike) -> float | None:
    number = float(np.asarray(value))
    return number if np.isfinite(number) else None
