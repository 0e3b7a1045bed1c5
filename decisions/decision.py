"""Decide on accounts: the scores of each account as a decision, with its reasons.

A pure function of what was known. The endpoint, the batch scorer and the replay call the same
`decide`, so that a replay makes the decision that was recorded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
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
from decisions.explanation import explain_accounts
from decisions.messages import AccountProblem, Decision, MarkUsed, Valuation, Valuations
from decisions.reasons import BookReasons, model_reasons
from features.state.snapshot import MarketSnapshot
from margin.rules.ruleset import RuleSet
from margin.valuation.account_marks import AccountMarks, InstrumentMark
from market.accounts.book import Account, Book
from market.core.clock import format_time
from market.core.errors import DataError, InstrumentError
from models.forecaster import Forecaster

NO_BUNDLE = "no model: no bundle has been promoted yet"


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
    explain: Collection[str] = (),
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
    explain:
        Ids of the accounts whose decisions are explained.

    Returns
    -------
    In the order of the accounts, a decision or the problem that prevented it.
    """
    basis = DecisionBasis(snapshot, ruleset, model, previous)
    scores = score_book(Book.of(accounts), basis, no_model)
    problems = unanswerable(scores)
    reasons = BookReasons(scores, snapshot, ruleset, model)
    marks = _marks(scores.valuations, ruleset)
    valuations = _valuations(scores.valuations)
    explanations = _explanations(scores, basis, problems.keys(), explain)
    contributions = model_reasons(scores.forecast, model, explanations.keys())
    columns = zip(
        _amounts(scores), _probabilities(scores.forecast, model), reasons.binding, strict=True
    )
    as_of, bundle, rules = (
        format_time(snapshot.as_of),
        None if model is None else model.bundle.sha256,
        ruleset.sha256,
    )
    results: list[Decision | AccountProblem] = []
    for i, (amounts, probability, binding) in enumerate(columns):
        account_id = accounts[i].account_id
        if i in problems:
            results.append(_problem(account_id, problems[i]))
            continue
        explanation: dict[str, Any] | UnsetType = UNSET
        if i in explanations:
            every = reasons.all(i, marks[i], valuations[i], contributions.get(i, ()))
            explanation = {**explanations[i], "reasons": msgspec.to_builtins(every)}
        results.append(
            Decision(
                account_id=account_id,
                as_of=as_of,
                probability=probability,
                binding=binding,  # type: ignore[arg-type]  # one of BINDINGS
                degraded=scores.forecast.unavailable_reason[i],
                reasons=reasons.leading(i, marks[i], valuations[i]),
                model=bundle,
                ruleset=rules,
                marks=marks[i],
                valuations=valuations[i],
                explain=explanation,
                **amounts,
            )
        )
    return results


def _explanations(
    scores: BookScores, basis: DecisionBasis, problems: Collection[int], explain: Collection[str]
) -> dict[int, dict[str, Any]]:
    """Explanations of the accounts of some ids but those with problems, by index."""
    if not explain:
        return {}
    wanted = set(explain)
    explained = np.array([name in wanted for name in scores.book.account_ids])
    explained[list(problems)] = False
    return explain_accounts(scores, basis, explained)


def unanswerable(scores: BookScores) -> dict[int, DataError]:
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
    problems, count = valuations.last_good.problems, len(valuations.last_good)
    good = AccountMarks(valuations.last_good, ruleset)
    used: dict[str, MarkUsed] = {}
    marks: list[list[MarkUsed]] = [
        [] if i in problems else [_mark_used(mark, used) for mark in good.of(i)]
        for i in range(count)
    ]
    if valuations.suspect is None:
        return marks
    suspect = AccountMarks(valuations.suspect, ruleset)
    for i in np.flatnonzero(valuations.suspect_drives).tolist():
        if i not in problems:
            known = {mark.instrument: mark for mark in good.of(i)}
            marks[i] = [
                _mark_used(mark, {}, suspect=mark != known.get(mark.instrument))
                for mark in suspect.of(i)
            ]
    return marks


def _mark_used(
    mark: InstrumentMark, used: dict[str, MarkUsed], *, suspect: bool = False
) -> MarkUsed:
    """A mark as it is returned; those in `used` are shared between accounts."""
    found = used.get(mark.instrument)
    if found is None:
        found = used[mark.instrument] = MarkUsed(
            mark.instrument, mark.price, mark.source, mark.age_seconds, mark.stale, suspect
        )
    return found


def _valuations(valuations: BookValuations) -> list[Valuations | UnsetType]:
    """Both valuations of each account; unset where no price of it waits for confirmation."""
    if valuations.suspect is None:
        return [UNSET] * len(valuations.last_good)
    good, suspect = (
        [
            Valuation(*row)
            for row in zip(
                requirement.equity.tolist(),
                requirement.initial_margin.tolist(),
                requirement.maintenance_margin.tolist(),
                requirement.headroom.tolist(),
                strict=True,
            )
        ]
        for requirement in (valuations.last_good, valuations.suspect)
    )
    return [
        UNSET if one == other or other.headroom != other.headroom else Valuations(one, other)
        for one, other in zip(good, suspect, strict=True)
    ]


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
