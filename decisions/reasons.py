"""Reasons of a decision: what bound the add-on, what the rules demand, what moved the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import UNSET, UnsetType

from decisions.book_scoring import Forecast
from decisions.messages import MarkUsed, Reason, Valuations
from features.state.snapshot import MarketSnapshot
from margin.add_on.explain import Explanation
from margin.rules.ruleset import RuleSet
from market.core.clock import format_time
from models.forecaster import Forecaster
from models.trees.contributions import contribution_names, horizon_contributions

_TOP_REASONS = 5


def rule_reasons(explanation: Explanation, silence: str | None) -> list[Reason]:
    """What bound the level, why the model is silent, and the rules' floors."""
    text = _BOUND_TEXT[explanation.binding]
    if explanation.floor == explanation.cap == 0.0:
        text = _NO_EXPOSURE
    reasons = [Reason("bound", explanation.binding, explanation.add_on, text)]
    if silence is not None:
        reasons.append(Reason("data", "degraded", None, silence))
    return reasons + [
        Reason("rule", name, value, "what this rule floor demands")
        for name, value in sorted(explanation.floors.items())
    ]


def model_reasons(forecast: Forecast, model: Forecaster | None) -> list[list[Reason]]:
    """What moved the model most, for each account; nothing where it is silent."""
    reasons: list[list[Reason]] = [[] for _ in forecast.silence]
    if model is None:
        return reasons
    spoke = np.flatnonzero([silence is None for silence in forecast.silence])
    schema = model.bundle.schema
    horizon = schema.horizons[-1]
    parts = horizon_contributions(forecast.features[spoke], schema, model.bundle.trees, horizon)
    names = contribution_names(schema)
    text = f"log odds of a call within {horizon} h, before calibration"
    strongest = np.argsort(-np.abs(parts), axis=1, kind="stable")[:, :_TOP_REASONS]
    values = np.take_along_axis(parts, strongest, axis=1)
    for i, columns, row in zip(spoke.tolist(), strongest.tolist(), values.tolist(), strict=True):
        reasons[i] = [
            Reason("model", names[k], value, text)
            for k, value in zip(columns, row, strict=True)
            if value != 0.0
        ]
    return reasons


def missing_context(snapshot: MarketSnapshot, model: Forecaster) -> str | None:
    """What the model learned from and neither file nor quote tells now; None where nothing is."""
    lacking = snapshot.absent_series(model.bundle.schema.features)
    if not lacking:
        return None
    return (
        f"the model learned from {', '.join(lacking)} and no value is in force: post what they "
        "come from (funding, open_interest, implied_vol, marks, forwards and vols) to POST "
        "/v1/market/quotes, start again with newer files, or retrain without them"
    )


def price_reasons(marks: Sequence[MarkUsed], valuations: Valuations | UnsetType) -> list[Reason]:
    """Stale prices of an account, and that prices of it wait for confirmation."""
    reasons = [
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
    if valuations is not UNSET:
        lower = min(valuations.suspect.headroom, valuations.last_good.headroom)
        reasons.append(
            Reason(
                "data",
                "suspect_price",
                valuations.suspect.headroom,
                "a price of the account waits for confirmation: its headroom is "
                f"{valuations.suspect.headroom:.2f} at the suspect prices, "
                f"{valuations.last_good.headroom:.2f} at the last good ones; {lower:.2f} counts",
            )
        )
    return reasons


def _age(mark: MarkUsed) -> str:
    if mark.age_seconds is None:
        return "of unknown age"
    return f"{mark.age_seconds / 3_600.0:.2f} h old"


def market_reasons(
    snapshot: MarketSnapshot, ruleset: RuleSet, model: Forecaster | None
) -> list[Reason]:
    """What all decisions on a market share: missing inputs, other rules, rules out of date."""
    return [
        *_missing_inputs(snapshot, model),
        *_ruleset_mismatch(ruleset, model),
        *_ruleset_expired(ruleset, snapshot),
    ]


def _missing_inputs(snapshot: MarketSnapshot, model: Forecaster | None) -> list[Reason]:
    text = None if model is None else missing_context(snapshot, model)
    return [] if text is None else [Reason("data", "missing_context", None, text)]


def _ruleset_mismatch(ruleset: RuleSet, model: Forecaster | None) -> list[Reason]:
    """That the model learned calls by other rules: what it says is then of their calls."""
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


def out_of_force(ruleset: RuleSet, as_of: int) -> str | None:
    """That a rule set does not hold at a time by its own dates; None where it does."""
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
    text = out_of_force(ruleset, snapshot.as_of)
    return [] if text is None else [Reason("rule", "out_of_force", None, text)]


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
