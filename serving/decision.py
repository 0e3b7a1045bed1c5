"""One decision, one direction: rules, features, model, add-on. A pure function of what was known.

The endpoint, the batch scorer and the replay call the same function, so that what is replayed is
what was decided. The figures are those of `serving.figures`; here they are put into words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from features.snapshot import MarketSnapshot
from margin.cut_shares import cut_shares
from margin.explain import Explanation, explain, explain_engine
from margin.floors import floor_terms
from margin.requirement import Requirement
from margin.ruleset import RuleSet
from market.book import Account, Book
from market.clock import HOUR, format_time
from market.errors import DataError, InstrumentError
from models.contributions import contribution_names, horizon_contributions
from models.forecaster import Forecaster
from serving.figures import Figures, Forecast, compute_figures
from serving.messages import AccountProblem, Decision, Reason

Floats = npt.NDArray[np.float64]

NO_BUNDLE = "no model: no bundle has been promoted yet"
_TOP_REASONS = 5

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
    figures = compute_figures(
        Book.of(accounts),
        snapshot,
        ruleset,
        model,
        lambda requirement: _previous(accounts, requirement, previous, snapshot.as_of),
        no_model,
    )
    requirement = figures.requirement
    terms = floor_terms(requirement, snapshot.view(), ruleset.floors)
    cuts = _cuts(figures, ruleset)
    facts = _facts(figures)
    probability = _probabilities(figures.forecast, model)
    moved = _model_reasons(figures.forecast, model)
    untold = _untold(snapshot, model) + _other_rules(ruleset, model) + _undated(ruleset, snapshot)
    shared: dict[str, Any] = {
        "as_of": format_time(snapshot.as_of),
        "model": model.bundle.sha256 if model else None,
        "ruleset": ruleset.sha256,
    }
    answers: list[Decision | AccountProblem] = []
    for i, account in enumerate(accounts):
        if i in requirement.problems:
            answers.append(_problem(account.account_id, requirement.problems[i]))
            continue
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
        answers.append(
            Decision(
                account_id=account.account_id,
                probability=probability[i],
                total_requirement=explanation.total_requirement,
                binding=explanation.binding,  # type: ignore[arg-type]  # one of BINDINGS
                degraded=silence,
                reasons=_rule_reasons(explanation, silence) + untold + moved[i],
                explain=explanation.to_dict(),
                **facts[i],
                **shared,
            )
        )
    return answers


def missing_context(snapshot: MarketSnapshot, model: Forecaster) -> str | None:
    """What the model learned from and neither file nor quote tells now; None where nothing is."""
    lacking = snapshot.lacks(model.bundle.schema.features)
    if not lacking:
        return None
    return (
        f"the model learned from {', '.join(lacking)} and no value is in force: post what they "
        "come from (funding, open_interest, implied_vol, marks, forwards and vols) to POST "
        "/v1/market/quotes, start again with newer files, or retrain without them"
    )


def _untold(snapshot: MarketSnapshot, model: Forecaster | None) -> list[Reason]:
    text = None if model is None else missing_context(snapshot, model)
    return [] if text is None else [Reason("data", "missing_context", None, text)]


def _other_rules(ruleset: RuleSet, model: Forecaster | None) -> list[Reason]:
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


def _undated(ruleset: RuleSet, snapshot: MarketSnapshot) -> list[Reason]:
    text = out_of_force(ruleset, snapshot.as_of)
    return [] if text is None else [Reason("rule", "out_of_force", None, text)]


def _cuts(figures: Figures, ruleset: RuleSet) -> Floats:
    """Counterfactual cuts of an engine's accounts; NaN under brackets, which need no search."""
    margined = figures.requirement.margined
    if margined is None:
        return np.full(len(figures.requirement), np.nan)
    return cut_shares(margined, ruleset, figures.add_on.level)


def _facts(figures: Figures) -> list[dict[str, Any]]:
    """The plain numbers of each decision, by name."""
    requirement, add_on = figures.requirement, figures.add_on
    # G; where no level up to the cap suffices, the highest that was tried.
    asked = np.minimum(figures.forecast.level.level, np.maximum(add_on.floor, add_on.cap))
    columns = {
        "equity": requirement.equity,
        "initial_margin": requirement.initial_margin,
        "maintenance_margin": requirement.maintenance_margin,
        "headroom": requirement.headroom,
        "add_on": add_on.level,
        "deposit_to_meet": figures.deposit,
        "floor": add_on.floor,
        "cap": add_on.cap,
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
        {**dict(zip(columns, row, strict=True)), "model_add_on": None if level != level else level}
        for row, level in zip(rows, asked.tolist(), strict=True)
    ]


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


def _previous(
    accounts: Sequence[Account],
    requirement: Requirement,
    previous: Mapping[str, PreviousAddOn],
    as_of: int,
) -> tuple[Floats, Floats]:
    """Previous level and hours since, NaN where there is none."""
    levels, hours = np.full(len(accounts), np.nan), np.full(len(accounts), np.nan)
    for i, account in enumerate(accounts):
        before = previous.get(account.account_id)
        if before is not None:
            levels[i] = before.level(account, float(requirement.initial_margin[i]))
            hours[i] = before.hours_since(as_of)
    return levels, hours


def _rule_reasons(explanation: Explanation, silence: str | None) -> list[Reason]:
    """What bound the level, why the model is silent, and the rules' floors."""
    level = explanation.add_on
    reasons = [Reason("bound", explanation.binding, level, _BOUND_TEXT[explanation.binding])]
    if silence is not None:
        reasons.append(Reason("data", "degraded", None, silence))
    return reasons + [
        Reason("rule", name, value, "what this rule floor demands")
        for name, value in sorted(explanation.floors.items())
    ]


def _model_reasons(forecast: Forecast, model: Forecaster | None) -> list[list[Reason]]:
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


_BOUND_TEXT = {
    "floor": "the largest rule floor is above the level that model and pace allow",
    "model": "the model's level, within the rules",
    "cap": "the model asks for more than the rules' cap",
    "dead_band": "the change is within the dead-band: the level stays",
    "step": "the level rises no faster than the rules allow",
    "release": "the level is released slowly",
    "fallback": "the model could not answer: the rule floor applies",
}
