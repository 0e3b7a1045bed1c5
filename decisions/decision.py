"""Decide on accounts: the scores of each account as a decision, with its reasons.

A pure function of what was known. The endpoint, the batch scorer and the replay call the same
`decide`, so that a replay makes the decision that was recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec import UNSET, UnsetType

from decisions.book_scoring import (
    BookScores,
    BookValuations,
    DecisionBasis,
    Forecast,
    PreviousAddOn,
    score_book,
)
from decisions.messages import (
    AccountProblem,
    Decision,
    MarkUsed,
    Reason,
    Valuation,
    Valuations,
)
from features.state.snapshot import MarketSnapshot
from margin.add_on.explain import Explanation, explain, explain_engine
from margin.add_on.reduction import reduction_fractions
from margin.floors.registry import floor_terms
from margin.rules.ruleset import RuleSet
from margin.valuation.account_marks import AccountMarks
from market.accounts.book import Account, Book
from market.core.arrays import Floats
from market.core.clock import format_time
from market.core.errors import DataError, InstrumentError
from models.forecaster import Forecaster
from models.trees.contributions import contribution_names, horizon_contributions

NO_BUNDLE = "no model: no bundle has been promoted yet"

_TOP_REASONS = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """Decisions and problems of a call, and the model that was used; None without one."""

    decisions: list[Decision]
    problems: list[AccountProblem]
    model: Forecaster | None

    @classmethod
    def of(cls, results: Sequence[Decision | AccountProblem], model: Forecaster | None) -> Outcome:
        """The results of `decide`, sorted into decisions and problems."""
        return cls(
            [result for result in results if isinstance(result, Decision)],
            [result for result in results if isinstance(result, AccountProblem)],
            model,
        )


def decide(
    accounts: Sequence[Account],
    snapshot: MarketSnapshot,
    ruleset: RuleSet,
    model: Forecaster | None,
    previous: Mapping[str, PreviousAddOn],
    *,
    no_model: str = NO_BUNDLE,
) -> list[Decision | AccountProblem]:
    """Decide on accounts at the snapshot's time.

    Parameters
    ----------
    accounts:
        As they stand.
    snapshot:
        The market as known at the decision time.
    ruleset:
        The rules.
    model:
        The champion, or None: then every decision is the rule floor, marked degraded.
    previous:
        The add-on in force by account id.
    no_model:
        Why there is no model.

    Returns
    -------
    In the order of the accounts, a decision or the problem that prevented it.
    """
    basis = DecisionBasis(snapshot, ruleset, model, previous)
    scores = score_book(Book.of(accounts), basis, no_model)
    valuations = scores.valuations
    problems = _problems(scores)
    terms = floor_terms(valuations.last_good, snapshot.view(), ruleset.floors)
    cuts = _reduction_fractions(scores, ruleset)
    amounts = _amounts(scores)
    probability = _probabilities(scores.forecast, model)
    contributions = model_reasons(scores.forecast, model)
    marks = _marks(valuations, ruleset)
    shared_reasons = market_reasons(snapshot, ruleset, model)
    shared: dict[str, Any] = {
        "as_of": format_time(snapshot.as_of),
        "model": model.bundle.sha256 if model else None,
        "ruleset": ruleset.sha256,
    }
    results: list[Decision | AccountProblem] = []
    for i, account in enumerate(accounts):
        if i in problems:
            results.append(_problem(account.account_id, problems[i]))
            continue
        requirement = valuations.of_account(i)
        explanation = explain(
            i,
            scores.book,
            requirement,
            scores.floors,
            terms,
            scores.forecast.level,
            scores.add_on,
            explain_engine(i, requirement, ruleset, float(cuts[i])),
        )
        degraded = scores.forecast.unavailable_reason[i]
        both = _valuations(valuations, i)
        results.append(
            Decision(
                account_id=account.account_id,
                probability=probability[i],
                binding=explanation.binding,  # type: ignore[arg-type]  # one of BINDINGS
                degraded=degraded,
                reasons=rule_reasons(explanation, degraded)
                + price_reasons(marks[i], both)
                + shared_reasons
                + contributions[i],
                explain=explanation.to_dict(),
                valuations=both,
                marks=marks[i],
                **amounts[i],
                **shared,
            )
        )
    return results


def _reduction_fractions(scores: BookScores, ruleset: RuleSet) -> Floats:
    """Share of every position of each account whose closing leaves nothing missing, (N,)."""
    valuations, level = scores.valuations, scores.add_on.level
    cuts = reduction_fractions(valuations.last_good, ruleset, level)
    if valuations.suspect is None:
        return cuts
    suspect = reduction_fractions(valuations.suspect, ruleset, level)
    return np.where(valuations.suspect_drives, suspect, cuts)


def _problems(scores: BookScores) -> dict[int, DataError]:
    """Why accounts cannot be decided on, by index: what the rules refuse, else an overflow.

    Every number of the other accounts is finite.
    """
    add_on, column = scores.add_on, scores.valuations.column
    amounts = (
        column("equity"),
        column("initial_margin"),
        column("maintenance_margin"),
        column("headroom"),
        add_on.level,
        add_on.floor,
        add_on.cap,
        scores.total_requirement,
        scores.opening_requirement,
        scores.deposit,
    )
    problems = dict(scores.requirement.problems)
    overflown = ~np.logical_and.reduce([np.isfinite(amount) for amount in amounts])
    for i in np.flatnonzero(overflown).tolist():
        reason = "its figures exceed what float64 can hold; check its sizes"
        problems.setdefault(i, DataError(f"account {scores.book.account_ids[i]!r}: {reason}"))
    return problems


def _amounts(scores: BookScores) -> list[dict[str, Any]]:
    """The amounts of each decision, by name of its field."""
    add_on, column = scores.add_on, scores.valuations.column
    # G; where no level up to the cap suffices, the highest that was tried.
    required = np.minimum(scores.forecast.level.level, np.maximum(add_on.floor, add_on.cap))
    columns = {
        **{
            name: column(name)
            for name in ("equity", "initial_margin", "maintenance_margin", "headroom")
        },
        "add_on": add_on.level,
        "total_requirement": scores.total_requirement,
        "opening_requirement": scores.opening_requirement,
        "deposit_to_meet": scores.deposit,
        "floor": add_on.floor,
        "cap": add_on.cap,
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
        {**dict(zip(columns, row, strict=True)), "model_add_on": None if level != level else level}
        for row, level in zip(rows, required.tolist(), strict=True)
    ]


def _marks(valuations: BookValuations, ruleset: RuleSet) -> list[list[MarkUsed]]:
    """The marks that each account was valued at; none for an account without scores."""
    good = AccountMarks(valuations.last_good, ruleset)
    suspect = None if valuations.suspect is None else AccountMarks(valuations.suspect, ruleset)
    marks: list[list[MarkUsed]] = []
    for i in range(len(valuations.last_good)):
        if i in valuations.last_good.problems:
            marks.append([])
            continue
        known = {mark.instrument: mark for mark in good.of(i)}
        driving = (
            good.of(i) if suspect is None or not valuations.suspect_drives[i] else suspect.of(i)
        )
        marks.append(
            [
                MarkUsed(
                    mark.instrument,
                    mark.price,
                    mark.source,
                    mark.age_seconds,
                    mark.stale,
                    mark != known.get(mark.instrument),
                )
                for mark in driving
            ]
        )
    return marks


def _valuations(valuations: BookValuations, i: int) -> Valuations | UnsetType:
    """Both valuations of an account; unset where no price of it waits for confirmation."""
    if valuations.suspect is None:
        return UNSET
    good, suspect = (
        Valuation(
            float(requirement.equity[i]),
            float(requirement.initial_margin[i]),
            float(requirement.maintenance_margin[i]),
            float(requirement.headroom[i]),
        )
        for requirement in (valuations.last_good, valuations.suspect)
    )
    return (
        UNSET
        if good == suspect or suspect.headroom != suspect.headroom
        else Valuations(good, suspect)
    )


def _probabilities(forecast: Forecast, model: Forecaster | None) -> list[dict[str, float] | None]:
    if model is None:
        return [None] * len(forecast.unavailable_reason)
    hours = [str(horizon) for horizon in model.horizons]
    return [
        None if reason is not None else dict(zip(hours, row, strict=True))
        for reason, row in zip(
            forecast.unavailable_reason, forecast.probability.tolist(), strict=True
        )
    ]


def _problem(account_id: str, error: DataError) -> AccountProblem:
    instrument = error.instrument if isinstance(error, InstrumentError) else None
    kind = "instrument" if instrument else "account"
    return AccountProblem(account_id, kind, str(error), instrument)


def rule_reasons(explanation: Explanation, degraded: str | None) -> list[Reason]:
    """What bound the level, why there is no forecast, and the rule floors."""
    text = _BOUND_TEXT[explanation.binding]
    if explanation.floor == explanation.cap == 0.0:
        text = _NO_EXPOSURE
    reasons = [Reason("bound", explanation.binding, explanation.add_on, text)]
    if degraded is not None:
        reasons.append(Reason("data", "degraded", None, degraded))
    return reasons + [
        Reason("rule", name, value, "what this rule floor demands")
        for name, value in sorted(explanation.floors.items())
    ]


def model_reasons(forecast: Forecast, model: Forecaster | None) -> list[list[Reason]]:
    """The features that moved the forecast of each account most; none without a forecast."""
    reasons: list[list[Reason]] = [[] for _ in forecast.unavailable_reason]
    if model is None:
        return reasons
    answered = np.flatnonzero([reason is None for reason in forecast.unavailable_reason])
    schema = model.bundle.schema
    horizon = schema.horizons[-1]
    parts = horizon_contributions(forecast.features[answered], schema, model.bundle.trees, horizon)
    names = contribution_names(schema)
    text = f"log odds of a call within {horizon} h, before calibration"
    strongest = np.argsort(-np.abs(parts), axis=1, kind="stable")[:, :_TOP_REASONS]
    values = np.take_along_axis(parts, strongest, axis=1)
    for i, columns, row in zip(answered.tolist(), strongest.tolist(), values.tolist(), strict=True):
        reasons[i] = [
            Reason("model", names[k], value, text)
            for k, value in zip(columns, row, strict=True)
            if value != 0.0
        ]
    return reasons


def missing_inputs_reason(snapshot: MarketSnapshot, model: Forecaster) -> str | None:
    """Which inputs the model was trained on and no file or quote provides now; None if none."""
    missing = snapshot.absent_series(model.bundle.schema.features)
    if not missing:
        return None
    return (
        f"the model learned from {', '.join(missing)} and no value is in force: post what they "
        "come from (funding, open_interest, implied_vol, marks, forwards and vols) to POST "
        "/v1/market/quotes, start again with newer files, or retrain without them"
    )


def price_reasons(marks: Sequence[MarkUsed], valuations: Valuations | UnsetType) -> list[Reason]:
    """Reasons for stale prices of an account and for prices that wait for confirmation."""
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
    """Reasons that all decisions on a market share: missing inputs, other rules, expired rules."""
    return [
        *_missing_inputs(snapshot, model),
        *_ruleset_mismatch(ruleset, model),
        *_ruleset_expired(ruleset, snapshot),
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
