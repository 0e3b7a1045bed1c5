"""One decision, one direction: rules, features, model, add-on. A pure function of what was known.

The endpoint, the batch scorer and the replay call the same function, so that what is replayed is
what was decided. The figures are those of `decisions.book_scoring`; here they are put into words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import UNSET, UnsetType

from decisions.book_scoring import BookScores, Forecast, score_book
from decisions.messages import AccountProblem, Decision, MarkUsed, Valuation, Valuations
from decisions.reasons import market_reasons, model_reasons, price_reasons, rule_reasons
from decisions.valuations import BookValuations
from features.state.snapshot import MarketSnapshot
from margin.add_on.explain import explain, explain_engine
from margin.add_on.reduction import reduction_fractions
from margin.floors import floor_terms
from margin.rules.ruleset import RuleSet
from margin.valuation.account_marks import AccountMarks
from market.accounts.book import Account, Book
from market.core.clock import HOUR, format_time
from market.core.errors import DataError, InstrumentError
from models.forecaster import Forecaster

Floats = npt.NDArray[np.float64]

NO_BUNDLE = "no model: no bundle has been promoted yet"

CARRIED_HOURS = 24.0
"""Pace that a level gathers at most while the model does not answer."""


@dataclass(frozen=True, slots=True)
class PreviousAddOn:
    """The add-on in force.

    Attributes
    ----------
    amount:
        Level above maintenance margin, settlement currency.
    as_of:
        When it was decided, nanoseconds.
    initial_margin:
        The rule's, of the book it was decided on; None where that book is not known.
    positions:
        Quantity of each instrument in that book.
    carried:
        The decisions since were fallbacks, which set no level.
    """

    amount: float
    as_of: int
    initial_margin: float | None = None
    positions: Mapping[str, float] = field(default_factory=dict)
    carried: bool = False

    def hours_since(self, as_of: int) -> float:
        """Hours in which the level may have moved by a decision at `as_of`.

        They go on while the model does not answer, up to `CARRIED_HOURS`.
        """
        hours = (as_of - self.as_of) / HOUR
        return min(hours, CARRIED_HOURS) if self.carried else hours

    def level(self, account: Account, initial_margin: float) -> float:
        """The level for the book as it is now; NaN where there is none to go by.

        Pace is for the market's moves, not for the account's own: once its positions have
        changed the level goes with the rule's initial margin, and a book that was empty says
        nothing of a full one.
        """
        held = {p.instrument: p.quantity for p in account.positions if p.quantity != 0.0}
        if self.initial_margin is None or self.positions == held:
            return self.amount
        if self.initial_margin <= 0.0:
            return float("nan")
        return self.amount * (initial_margin / self.initial_margin)


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
        The champion, or None: then every answer is the rule floor, marked degraded.
    previous:
        The add-on in force by account id.
    no_model:
        Why there is no model.

    Returns
    -------
    In the order of the accounts, a decision or the problem that prevented it.
    """
    figures = score_book(
        Book.of(accounts),
        snapshot,
        ruleset,
        model,
        lambda initial_margin: previous_levels(accounts, initial_margin, previous, snapshot.as_of),
        no_model,
    )
    valuations = figures.valuations
    problems = _problems(figures)
    terms = floor_terms(valuations.last_good, snapshot.view(), ruleset.floors)
    cuts = _cuts(figures, ruleset)
    facts = _facts(figures)
    probability = _probabilities(figures.forecast, model)
    moved = model_reasons(figures.forecast, model)
    marks = _marks(valuations, ruleset)
    of_market = market_reasons(snapshot, ruleset, model)
    shared: dict[str, Any] = {
        "as_of": format_time(snapshot.as_of),
        "model": model.bundle.sha256 if model else None,
        "ruleset": ruleset.sha256,
    }
    answers: list[Decision | AccountProblem] = []
    for i, account in enumerate(accounts):
        if i in problems:
            answers.append(_problem(account.account_id, problems[i]))
            continue
        requirement = valuations.of_account(i)
        explanation = explain(
            i,
            figures.book,
            requirement,
            figures.floors,
            terms,
            figures.forecast.level,
            figures.add_on,
            explain_engine(i, requirement, ruleset, float(cuts[i])),
        )
        silence = figures.forecast.silence[i]
        suspects = _valuations(valuations, i)
        answers.append(
            Decision(
                account_id=account.account_id,
                probability=probability[i],
                binding=explanation.binding,  # type: ignore[arg-type]  # one of BINDINGS
                degraded=silence,
                reasons=rule_reasons(explanation, silence)
                + price_reasons(marks[i], suspects)
                + of_market
                + moved[i],
                explain=explanation.to_dict(),
                valuations=suspects,
                marks=marks[i],
                **facts[i],
                **shared,
            )
        )
    return answers


def _cuts(figures: BookScores, ruleset: RuleSet) -> Floats:
    """Share of every position of each account whose closing leaves nothing missing, (N,)."""
    valuations, level = figures.valuations, figures.add_on.level
    cuts = reduction_fractions(valuations.last_good, ruleset, level)
    if valuations.suspect is None:
        return cuts
    return valuations.driving(cuts, reduction_fractions(valuations.suspect, ruleset, level))


def _problems(figures: BookScores) -> dict[int, DataError]:
    """Why accounts cannot be decided on, by index: what the rules found, else figures that
    overflow. Every figure of the other accounts is a finite number."""
    add_on, column = figures.add_on, figures.valuations.column
    needed = (
        column("equity"),
        column("initial_margin"),
        column("maintenance_margin"),
        column("headroom"),
        add_on.level,
        add_on.floor,
        add_on.cap,
        figures.total_requirement,
        figures.opening_requirement,
        figures.deposit,
    )
    problems = dict(figures.requirement.problems)
    overflown = ~np.logical_and.reduce([np.isfinite(figure) for figure in needed])
    for i in np.flatnonzero(overflown).tolist():
        reason = "its figures exceed what float64 can hold; check its sizes"
        problems.setdefault(i, DataError(f"account {figures.book.account_ids[i]!r}: {reason}"))
    return problems


def _facts(figures: BookScores) -> list[dict[str, Any]]:
    """The plain numbers of each decision, by name."""
    add_on, column = figures.add_on, figures.valuations.column
    # G; where no level up to the cap suffices, the highest that was tried.
    asked = np.minimum(figures.forecast.level.level, np.maximum(add_on.floor, add_on.cap))
    columns = {
        **{
            name: column(name)
            for name in ("equity", "initial_margin", "maintenance_margin", "headroom")
        },
        "add_on": add_on.level,
        "total_requirement": figures.total_requirement,
        "opening_requirement": figures.opening_requirement,
        "deposit_to_meet": figures.deposit,
        "floor": add_on.floor,
        "cap": add_on.cap,
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
        {**dict(zip(columns, row, strict=True)), "model_add_on": None if level != level else level}
        for row, level in zip(rows, asked.tolist(), strict=True)
    ]


def _marks(valuations: BookValuations, ruleset: RuleSet) -> list[list[MarkUsed]]:
    """The marks behind the figures of each account; none of one without figures."""
    good = AccountMarks(valuations.last_good, ruleset)
    other = None if valuations.suspect is None else AccountMarks(valuations.suspect, ruleset)
    found: list[list[MarkUsed]] = []
    for i in range(len(valuations.last_good)):
        if i in valuations.last_good.problems:
            found.append([])
            continue
        known = {mark.instrument: mark for mark in good.of(i)}
        driving = good.of(i) if other is None or not valuations.suspect_drives[i] else other.of(i)
        found.append(
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
    return found


def _valuations(valuations: BookValuations, i: int) -> Valuations | UnsetType:
    """Both valuations of an account; unset where no price of it waits for confirmation."""
    if valuations.suspect is None:
        return UNSET
    good, suspect = (
        Valuation(
            float(one.equity[i]),
            float(one.initial_margin[i]),
            float(one.maintenance_margin[i]),
            float(one.headroom[i]),
        )
        for one in (valuations.last_good, valuations.suspect)
    )
    return (
        UNSET
        if good == suspect or suspect.headroom != suspect.headroom
        else Valuations(good, suspect)
    )


def _probabilities(forecast: Forecast, model: Forecaster | None) -> list[dict[str, float] | None]:
    if model is None:
        return [None] * len(forecast.silence)
    hours = [str(horizon) for horizon in model.horizons]
    return [
        None if silence is not None else dict(zip(hours, row, strict=True))
        for silence, row in zip(forecast.silence, forecast.probability.tolist(), strict=True)
    ]


def _problem(account_id: str, error: DataError) -> AccountProblem:
    instrument = error.instrument if isinstance(error, InstrumentError) else None
    kind = "instrument" if instrument else "account"
    return AccountProblem(account_id, kind, str(error), instrument)


def previous_levels(
    accounts: Sequence[Account],
    initial_margin: Floats,
    previous: Mapping[str, PreviousAddOn],
    as_of: int,
) -> tuple[Floats, Floats]:
    """Previous level of each account and hours since it was set, shape (N,); NaN where there is
    none."""
    levels, hours = np.full(len(accounts), np.nan), np.full(len(accounts), np.nan)
    for i, account in enumerate(accounts):
        before = previous.get(account.account_id)
        if before is not None:
            levels[i] = before.level(account, float(initial_margin[i]))
            hours[i] = before.hours_since(as_of)
    return levels, hours
