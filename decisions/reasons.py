"""Reasons for a decision, in words and figures: the few that matter most, or all of them.

`leading_reasons` gives at most `MOST_REASONS` in their order of importance: what bound the level,
then what is wrong with the data, then the largest rule floor. `all_reasons` adds every rule floor,
and what moved the model's forecast most.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from msgspec import UNSET, UnsetType

from decisions.book_scoring import BookScores, Forecast
from decisions.messages import MarkUsed, Reason, Valuations
from features.state.snapshot import MarketSnapshot
from margin.add_on.bounds import BINDINGS
from margin.rules.ruleset import RuleSet
from market.core.clock import format_time
from market.core.identity_cache import IdentityCache
from models.forecaster import Forecaster
from models.trees.contributions import contribution_names, horizon_contributions

MOST_REASONS = 3
"""Reasons that a decision names where no explanation was requested."""

_TOP_CONTRIBUTIONS = 5

_ABSENT = IdentityCache[tuple[str, ...]](8)
"""Series that a market lacks of those that the features of a model come from."""


class BookReasons:
    """The reasons for the decisions on a book.

    Parameters
    ----------
    scores:
        Of the book.
    snapshot, ruleset, model:
        What the decisions rest on.
    """

    def __init__(
        self,
        scores: BookScores,
        snapshot: MarketSnapshot,
        ruleset: RuleSet,
        model: Forecaster | None,
    ) -> None:
        add_on = scores.add_on
        self._level, self._floor = add_on.level.tolist(), add_on.floor.tolist()
        self.binding: list[str] = [BINDINGS[code] for code in add_on.binding.tolist()]
        self._no_exposure = ((add_on.floor == 0.0) & (add_on.cap == 0.0)).tolist()
        self._degraded = scores.forecast.unavailable_reason
        self._floors = {name: scores.floors[name] for name in sorted(scores.floors)}
        self._names = list(self._floors)
        self._largest = (
            np.argmax(np.stack(list(self._floors.values())), axis=0).tolist()
            if self._floors
            else []
        )
        self._shared = market_reasons(snapshot, ruleset, model)

    def leading(
        self, i: int, marks: Sequence[MarkUsed], valuations: Valuations | UnsetType
    ) -> list[Reason]:
        """The most important reasons for the decision on account i, at most `MOST_REASONS`.

        What bound the level; then that there is no forecast, suspect prices, stale prices, inputs
        that are missing, rules that the model did not learn from, rules that are out of force;
        then the largest rule floor, the first by name of equal ones, unless it is 0.
        """
        reasons = [self._bound(i)]
        degraded = self._degraded[i]
        if degraded is not None:
            reasons.append(_degraded_reason(degraded))
        if valuations is not UNSET:
            reasons.append(_suspect_reason(valuations))
        reasons += _stale_reasons(marks)
        reasons += self._shared
        if len(reasons) < MOST_REASONS and self._names and self._floor[i] > 0.0:
            reasons.append(_floor_reason(self._names[self._largest[i]], self._floor[i]))
        return reasons[:MOST_REASONS]

    def all(
        self,
        i: int,
        marks: Sequence[MarkUsed],
        valuations: Valuations | UnsetType,
        contributions: Sequence[Reason],
    ) -> list[Reason]:
        """All reasons for the decision on account i: of the rules, the data and the model.

        Parameters
        ----------
        i, marks, valuations:
            The account, with its marks and valuations.
        contributions:
            Its reasons of the model, from `model_reasons`.
        """
        reasons, degraded = [self._bound(i)], self._degraded[i]
        if degraded is not None:
            reasons.append(_degraded_reason(degraded))
        reasons += [_floor_reason(name, float(floor[i])) for name, floor in self._floors.items()]
        reasons += _stale_reasons(marks)
        if valuations is not UNSET:
            reasons.append(_suspect_reason(valuations))
        return [*reasons, *self._shared, *contributions]

    def _bound(self, i: int) -> Reason:
        name = self.binding[i]
        text = _NO_EXPOSURE if self._no_exposure[i] else _BOUND_TEXT[name]
        return Reason("bound", name, self._level[i], text)


def _degraded_reason(text: str) -> Reason:
    return Reason("data", "degraded", None, text)


def _floor_reason(name: str, value: float) -> Reason:
    return Reason("rule", name, value, "what this rule floor demands")


def _stale_reasons(marks: Sequence[MarkUsed]) -> list[Reason]:
    return [
        Reason(
            "data",
            "stale_price",
            mark.age_seconds,
            f"the price of {mark.instrument} is stale: {_AGES[mark.source]} is {_age(mark)} and "
            "there is no fresher one",
        )
        for mark in marks
        if mark.stale
    ]


def _suspect_reason(valuations: Valuations) -> Reason:
    lower = min(valuations.suspect.headroom, valuations.last_good.headroom)
    return Reason(
        "data",
        "suspect_price",
        valuations.suspect.headroom,
        "a price of the account waits for confirmation: its headroom is "
        f"{valuations.suspect.headroom:.2f} at the suspect prices, "
        f"{valuations.last_good.headroom:.2f} at the last good ones; {lower:.2f} counts",
    )


def model_reasons(
    forecast: Forecast, model: Forecaster | None, explained: Iterable[int]
) -> dict[int, list[Reason]]:
    """The features that moved the forecast of each explained account most, by its index.

    Accounts without a forecast are left out.
    """
    answered = [i for i in explained if forecast.unavailable_reason[i] is None]
    if model is None or not answered:
        return {}
    schema = model.bundle.schema
    horizon = schema.horizons[-1]
    bundle = model.bundle
    parts = horizon_contributions(
        forecast.features[answered], schema, bundle.trees, horizon, bundle.priors
    )
    names = contribution_names(schema)
    text = f"log odds of a call within {horizon} h, before calibration"
    strongest = np.argsort(-np.abs(parts), axis=1, kind="stable")[:, :_TOP_CONTRIBUTIONS]
    values = np.take_along_axis(parts, strongest, axis=1)
    return {
        i: [
            Reason("model", names[k], value, text)
            for k, value in zip(columns, row, strict=True)
            if value != 0.0
        ]
        for i, columns, row in zip(answered, strongest.tolist(), values.tolist(), strict=True)
    }


def missing_inputs_reason(snapshot: MarketSnapshot, model: Forecaster) -> str | None:
    """Which inputs the model was trained on and no file or quote provides now; None if none."""
    features = model.bundle.schema.features
    missing = _ABSENT.get(
        (snapshot.at_close, features), lambda: tuple(snapshot.absent_series(features))
    )
    if not missing:
        return None
    return (
        f"the model learned from {', '.join(missing)} and no value is in force: post what they "
        "come from (funding, open_interest, implied_vol, marks, forwards and vols) to POST "
        "/v1/market/quotes, start again with newer files, or retrain without them"
    )


def _age(mark: MarkUsed) -> str:
    if mark.age_seconds is None:
        return "of unknown age"
    return f"{mark.age_seconds / 3_600.0:.2f} h old"


def market_reasons(
    snapshot: MarketSnapshot, ruleset: RuleSet, model: Forecaster | None
) -> list[Reason]:
    """Reasons that all decisions on a market share: missing inputs, other rules, expired rules,
    a phase-in."""
    return [
        *_missing_inputs(snapshot, model),
        *_ruleset_mismatch(ruleset, model),
        *_ruleset_expired(ruleset, snapshot),
        *_phase_in(ruleset, snapshot),
    ]


def _missing_inputs(snapshot: MarketSnapshot, model: Forecaster | None) -> list[Reason]:
    text = None if model is None else missing_inputs_reason(snapshot, model)
    return [] if text is None else [Reason("data", "missing_context", None, text)]


def _ruleset_mismatch(ruleset: RuleSet, model: Forecaster | None) -> list[Reason]:
    """A reason where the model was trained under other rules: it forecasts their calls."""
    if model is None:
        return []
    learned = str(model.bundle.manifest["ruleset_sha256"])
    if learned == ruleset.sha256:
        return []
    text = (
        f"the model learned calls under rule set {learned[:12]} and is asked under "
        f"{ruleset.name} ({ruleset.sha256[:12]}): read its probabilities as of calls "
        "by the rules it learned from"
    )
    return [Reason("data", "other_rules", None, text)]


def ruleset_expired_reason(ruleset: RuleSet, as_of: int) -> str | None:
    """Why a rule set is not valid at a time by its own dates; None where it is."""
    begin, end = ruleset.validity
    if (begin is None or begin <= as_of) and (end is None or as_of < end):
        return None
    return (
        f"rule set {ruleset.name} version {ruleset.version} holds from "
        f"{ruleset.effective_from or 'any time'} to {ruleset.effective_to or 'any time'} and is "
        f"used at {format_time(as_of)} because it was chosen by its name: give a folder with the "
        "version of that time"
    )


def _ruleset_expired(ruleset: RuleSet, snapshot: MarketSnapshot) -> list[Reason]:
    text = ruleset_expired_reason(ruleset, snapshot.as_of)
    return [] if text is None else [Reason("rule", "out_of_force", None, text)]


def _phase_in(ruleset: RuleSet, snapshot: MarketSnapshot) -> list[Reason]:
    """A reason while the model's level does not count in full yet."""
    phase_in, weight = ruleset.add_on.phase_in, ruleset.add_on.model_weight(snapshot.as_of)
    if phase_in is UNSET or weight == 1.0:
        return []
    text = (
        f"the model's level counts with a weight of {weight:.4g} during the phase-in from "
        f"{phase_in.starts} to {phase_in.ends}; rule floors count in full"
    )
    return [Reason("rule", "phase_in", weight, text)]


_BOUND_TEXT = {
    "floor": "the largest rule floor is above the level that model and pace allow",
    "model": "the model's level, within the rules",
    "cap": "the model asks for more than the rules' cap",
    "dead_band": "the change is within the dead-band: the level stays",
    "step": "the level rises no faster than the rules allow",
    "release": "the level is released slowly",
    "fallback": "the model could not answer: the rule floor applies",
}

_AGES = {"quote": "the quoted mark", "bar": "the last bar close"}

_NO_EXPOSURE = "the account has no exposure that needs margin: no add-on is asked"
