"""One decision, one direction: rules, features, model, add-on. A pure function of what was known.

The endpoint, the batch scorer and the replay call the same function, so that what is replayed is
what was decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from features.account.frame import AccountRows, compute_moments
from features.registry import STALE_INTERVALS, WARM_UP_HOURS
from features.snapshot import MarketSnapshot
from margin.addon import (
    AddOn,
    ModelLevel,
    add_on_cap,
    bound_add_on,
    deposit_to_meet,
    in_stress,
)
from margin.explain import Explanation, explain
from margin.floors import active_floors, floor_terms, largest_floor
from margin.requirement import Requirement, compute_requirement
from margin.ruleset import RuleSet
from market.book import Account, Book
from market.clock import HOUR, format_time
from market.errors import InstrumentError
from models.contributions import contribution_names, score_contributions
from models.forecaster import Forecaster
from serving.messages import AccountProblem, Decision, Reason

Floats = npt.NDArray[np.float64]

NO_BUNDLE = "no model: no bundle has been promoted yet"
_TOP_REASONS = 5


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
    """

    amount: float
    as_of: int
    initial_margin: float | None = None
    positions: Mapping[str, float] = field(default_factory=dict)

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


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the model said of N accounts.

    Attributes
    ----------
    probability:
        Shape (N, H); NaN where it was not asked or did not answer.
    level:
        The headroom it asks for; NaN likewise.
    silence:
        Why it said nothing, for each account; None where it spoke.
    features:
        Its input columns, shape (N, F).
    """

    probability: Floats
    level: ModelLevel
    silence: list[str | None]
    features: Floats


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
    book = Book.of(accounts)
    view = snapshot.view()
    requirement = compute_requirement(book, view, ruleset)
    floors = active_floors(requirement, view, ruleset.floors)
    terms = floor_terms(requirement, view, ruleset.floors)
    floor = largest_floor(floors, requirement)
    cap = add_on_cap(requirement.initial_margin, ruleset.add_on)
    forecast = _forecast(requirement, snapshot, ruleset, model, np.fmax(floor, cap), no_model)
    add_on = bound_add_on(
        forecast.level.level,
        floor,
        cap,
        *_previous(accounts, requirement.initial_margin, previous, snapshot.as_of),
        requirement.initial_margin,
        in_stress(snapshot.volatility_ratio(), ruleset.add_on),
        ruleset.add_on,
    )
    deposit = deposit_to_meet(add_on.level, requirement.headroom)
    model_sha = model.bundle.sha256 if model else None
    answers: list[Decision | AccountProblem] = []
    for i, account_id in enumerate(book.account_ids):
        if i in requirement.problems:
            error = requirement.problems[i]
            instrument = error.instrument if isinstance(error, InstrumentError) else None
            kind = "instrument" if instrument else "account"
            answers.append(AccountProblem(account_id, kind, str(error), instrument))
            continue
        explanation = explain(i, book, requirement, floors, terms, forecast.level, add_on)
        answers.append(
            Decision(
                account_id=account_id,
                as_of=format_time(snapshot.as_of),
                equity=float(requirement.equity[i]),
                initial_margin=float(requirement.initial_margin[i]),
                maintenance_margin=float(requirement.maintenance_margin[i]),
                headroom=float(requirement.headroom[i]),
                probability=_probability(forecast, model, i),
                add_on=float(add_on.level[i]),
                total_requirement=explanation.total_requirement,
                deposit_to_meet=float(deposit[i]),
                floor=float(floor[i]),
                model_add_on=_model_add_on(forecast, add_on, i),
                cap=float(cap[i]),
                binding=explanation.binding,  # type: ignore[arg-type]  # one of BINDINGS
                degraded=forecast.silence[i],
                reasons=_reasons(i, explanation, forecast, model),
                model=model_sha,
                ruleset=ruleset.sha256,
                explain=explanation.to_dict(),
            )
        )
    return answers


def _forecast(
    requirement: Requirement,
    snapshot: MarketSnapshot,
    ruleset: RuleSet,
    model: Forecaster | None,
    upper: Floats,
    no_model: str,
) -> Forecast:
    """Ask the model about the accounts whose market it can judge."""
    n = len(requirement)
    targets = ruleset.add_on.targets
    horizons = tuple(sorted(targets))
    if model is None:
        silent = ModelLevel(horizons, np.full((n, len(horizons)), np.nan), np.full(n, np.nan))
        return Forecast(np.full((n, 0), np.nan), silent, [no_model] * n, np.empty((n, 0)))
    silence = _silences(requirement, snapshot)
    asked = np.flatnonzero([reason is None for reason in silence])
    rows = _rows(requirement, asked)
    moments = compute_moments(rows, snapshot.features)
    columns = model.features(moments)
    answered = model.probability(columns)
    found = model.required_level(moments, upper[asked], targets)
    for k, i in enumerate(asked):
        if np.isnan(answered[k]).any() or np.isnan(found.level[k]):
            silence[i] = "the model returned no number for this account"
            answered[k] = np.nan
            found.level[k] = np.nan
    return Forecast(
        probability=_spread(answered, asked, n),
        level=ModelLevel(
            found.horizons, _spread(found.by_horizon, asked, n), _spread(found.level, asked, n)
        ),
        silence=silence,
        features=_spread(columns, asked, n),
    )


def _rows(requirement: Requirement, asked: npt.NDArray[np.intp]) -> AccountRows:
    """The positions of some accounts."""
    counts = requirement.leg_start[asked + 1] - requirement.leg_start[asked]
    start = np.zeros(len(asked) + 1, dtype=np.int64)
    np.cumsum(counts, out=start[1:])
    legs = np.arange(start[-1]) + np.repeat(requirement.leg_start[asked] - start[:-1], counts)
    return AccountRows(
        row=np.zeros(len(asked), dtype=np.int64),
        leg_start=start,
        leg_symbol=requirement.leg_symbol[legs],
        leg_notional=requirement.leg_notional[legs],
        headroom=requirement.headroom[asked],
        maintenance_margin=requirement.maintenance_margin[asked],
    )


def _silences(requirement: Requirement, snapshot: MarketSnapshot) -> list[str | None]:
    """Why the model cannot be asked about each account; None where it can."""
    by_symbol = _symbol_silences(snapshot)
    silences: list[str | None] = [None] * len(requirement)
    for i in requirement.problems:
        silences[i] = "the account has no figures"
    if not any(by_symbol):
        return silences
    owner = np.repeat(np.arange(len(requirement)), np.diff(requirement.leg_start))
    for i, s in zip(owner.tolist(), requirement.leg_symbol.tolist(), strict=True):
        if s >= 0 and silences[i] is None:
            silences[i] = by_symbol[s]
    return silences


def _symbol_silences(snapshot: MarketSnapshot) -> list[str | None]:
    features, per_hour = snapshot.features, snapshot.interval.per_hour
    reasons: list[str | None] = []
    for s, (name, usable) in enumerate(zip(features.symbols, snapshot.usable(), strict=True)):
        age, history = features.age[0, s], features.history[0, s]
        if usable:
            reasons.append(None)
        elif not age <= STALE_INTERVALS / per_hour:
            reasons.append(f"stale market data: the newest bar of {name} closed {age:.2f} h ago")
        elif not history >= WARM_UP_HOURS:
            reasons.append(f"warm-up: {name} has {history:g} h of history, {WARM_UP_HOURS} needed")
        else:
            reasons.append(f"incomplete market data: {name} lacks a feature or a mark")
    return reasons


def _previous(
    accounts: Sequence[Account],
    initial_margin: Floats,
    previous: Mapping[str, PreviousAddOn],
    as_of: int,
) -> tuple[Floats, Floats]:
    """Previous level and hours since, NaN where there is none."""
    levels, hours = np.full(len(accounts), np.nan), np.full(len(accounts), np.nan)
    for i, account in enumerate(accounts):
        before = previous.get(account.account_id)
        if before is not None:
            levels[i] = before.level(account, float(initial_margin[i]))
            hours[i] = (as_of - before.as_of) / HOUR
    return levels, hours


def _spread(values: Floats, rows: npt.NDArray[np.intp], n: int) -> Floats:
    out = np.full((n, *values.shape[1:]), np.nan)
    out[rows] = values
    return out


def _probability(forecast: Forecast, model: Forecaster | None, i: int) -> dict[str, float] | None:
    if model is None or forecast.silence[i] is not None:
        return None
    return {
        str(hours): float(p)
        for hours, p in zip(model.horizons, forecast.probability[i], strict=True)
    }


def _model_add_on(forecast: Forecast, add_on: AddOn, i: int) -> float | None:
    """G; where no level up to the cap suffices, the highest that was tried."""
    level = forecast.level.level[i]
    if np.isnan(level):
        return None
    return float(min(level, max(add_on.floor[i], add_on.cap[i])))


def _reasons(
    i: int, explanation: Explanation, forecast: Forecast, model: Forecaster | None
) -> list[Reason]:
    """What bound the level, the rules' floors, and what moved the model most."""
    level = explanation.add_on
    reasons = [Reason("bound", explanation.binding, level, _BOUND_TEXT[explanation.binding])]
    if forecast.silence[i] is not None:
        reasons.append(Reason("data", "degraded", None, forecast.silence[i] or ""))
    reasons += [
        Reason("rule", name, value, "what this rule floor demands")
        for name, value in sorted(explanation.floors.items())
    ]
    if model is None or forecast.silence[i] is not None:
        return reasons
    schema = model.bundle.schema
    row = np.ascontiguousarray(forecast.features[i : i + 1])
    parts = score_contributions(row, schema, model.bundle.trees)[0, -1]
    names = contribution_names(schema)
    text = f"log odds of a call within {schema.horizons[-1]} h, before calibration"
    strongest = np.argsort(-np.abs(parts), kind="stable")[:_TOP_REASONS]
    reasons += [
        Reason("model", names[k], float(parts[k]), text) for k in strongest if parts[k] != 0.0
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
