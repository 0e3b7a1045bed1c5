"""Explanations and what-ifs of margin cases, JSON lines in and out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from margin.book.case_batch import flatten
from margin.book.case_portfolio import Holding, Portfolio
from margin.cases.margin_cases import CaseRun, answer_case, read_case
from margin.engines.registry import explain_margins
from margin.rules.ruleset import RuleSet
from margin.what_if.difference import difference
from margin.what_if.outcome import Outcome, marginal_requirements, outcome, outcomes
from margin.what_if.remedies import find_remedies
from margin.what_if.shocks import Shocks, shock_case
from margin.what_if.sizing import largest_size
from margin.what_if.trades import Change
from market.core.errors import CaseError

_WORST = 5
"""Scenarios that an explanation names."""


class _WhatIf(Struct, frozen=True, forbid_unknown_fields=True):
    """The key ``what_if`` of a case."""

    deposit: float = 0.0
    trades: tuple[Holding, ...] = ()
    largest: tuple[Holding, ...] = ()
    level: Literal["initial", "maintenance"] = "initial"
    target_headroom: float = 0.0
    costs: dict[str, Annotated[float, Meta(ge=0)]] = {}
    default_cost: Annotated[float, Meta(ge=0)] = 0.0005
    shocks: Shocks = Shocks()


def explain_case(line: bytes, number: int = 1) -> dict[str, Any]:
    """Where the margins of a case come from.

    Returns
    -------
    ``{"id", "parts", "marginal", "worst_scenarios"?}``: parts that add up to the net margins
    (`margin.engines.margins.Part`), what each position adds
    (`margin.what_if.outcome.MarginalRequirement`) and, under an engine of scenarios, the five
    worst (`margin.engines.margins.RankedScenario`); or ``{"id", "error"}``.
    """
    return answer_case(line, number, _explain)


def explain_against(earlier: Path) -> CaseRun:
    """Explains cases, and what changed in each since the case of the same id in a file.

    The answers carry ``changed``, see `margin.what_if.difference.Step`; ``elapsed_seconds`` of the
    later case is the time between the two, 0 where it is left out.

    Raises
    ------
    CaseError
        The file cannot be read, or names an id twice.
    """
    known: dict[object, dict[str, Any]] = {}
    try:
        lines = earlier.read_bytes().splitlines()
    except OSError as error:
        raise CaseError(f"{earlier}: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            case = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise CaseError(f"{earlier} line {number} is not a JSON object: {error}") from error
        if case.get("id") in known:
            raise CaseError(f"{earlier} line {number} has id {case.get('id')!r} again")
        known[case.get("id")] = case

    def run(line: bytes, number: int) -> dict[str, Any]:
        return answer_case(line, number, lambda case: _explain(case) | _compare(case, known))

    return run


def what_if_case(line: bytes, number: int = 1) -> dict[str, Any]:
    """What a change would do to a case, and what would help it.

    The case carries ``what_if``: ``deposit`` and ``trades`` of the change, ``largest`` (trades
    whose largest size that fits is asked for, by ``level``), ``target_headroom``, ``costs`` and
    ``default_cost`` of the remedies, and ``shocks`` (`margin.what_if.shocks.Shocks`), in which
    everything but ``before`` is computed; trades are done before them. All optional.

    Returns
    -------
    ``{"id", "before", "after", "largest", "remedies"}``, the remedies those of the portfolio
    before the change; or ``{"id", "error"}``.
    """
    return answer_case(line, number, _answer)


def _explain(case: Mapping[str, Any]) -> dict[str, Any]:
    portfolio, ruleset = read_case(case)
    portfolios = flatten([portfolio], ruleset.collateral)
    parts, worst = explain_margins(portfolios, 0, ruleset, _WORST)
    answer: dict[str, Any] = {
        "parts": msgspec.to_builtins(parts),
        "marginal": msgspec.to_builtins(marginal_requirements(portfolio, ruleset)),
        "ruleset_sha256": ruleset.sha256,
    }
    if worst is not None:
        answer["worst_scenarios"] = msgspec.to_builtins(worst)
    return answer


def _compare(case: Mapping[str, Any], known: Mapping[object, dict[str, Any]]) -> dict[str, Any]:
    earlier = known.get(case.get("id"))
    if earlier is None:
        raise CaseError(f"there is no earlier case {case.get('id')!r} to compare with")
    elapsed = case.get("elapsed_seconds", 0.0)
    if not isinstance(elapsed, int | float):
        raise CaseError(f"elapsed_seconds is {elapsed!r}; expected a number")
    before, after = read_case(earlier), read_case(case)
    return {"changed": msgspec.to_builtins(difference(*before, *after, float(elapsed)))}


def _answer(case: Mapping[str, Any]) -> dict[str, Any]:
    portfolio, ruleset = read_case(case)
    try:
        request = msgspec.convert(case.get("what_if", {}), _WhatIf)
    except msgspec.ValidationError as error:
        raise CaseError(f"what_if: {error}") from error
    changes = [Change(), Change(request.deposit, request.trades)]
    before, after = outcomes(portfolio, changes, ruleset)
    shocked = portfolio
    if request.shocks.moves:
        rules = ruleset.collateral
        shocked = shock_case(portfolio, request.shocks, rules)
        after = outcome(shock_case(after.portfolio, request.shocks, rules), ruleset)
    remedies = find_remedies(
        shocked, ruleset, request.target_headroom, request.costs, request.default_cost
    )
    return {
        "before": _plain(before),
        "after": _plain(after),
        "largest": [_size(shocked, trade, ruleset, request) for trade in request.largest],
        "remedies": msgspec.to_builtins(remedies),
        "ruleset_sha256": ruleset.sha256,
    }


def _size(
    portfolio: Portfolio, trade: Holding, ruleset: RuleSet, request: _WhatIf
) -> dict[str, Any]:
    size = largest_size(portfolio, trade, ruleset, request.level, request.target_headroom)
    unlimited = abs(size) == float("inf")
    return {
        "instrument": trade.name,
        "quantity": None if unlimited else size,
        "unlimited": unlimited,
    }


def _plain(outcome: Outcome) -> dict[str, float]:
    return {
        "mark_to_market": outcome.mark_to_market,
        "initial_net_margin": outcome.initial_net_margin,
        "maintenance_net_margin": outcome.maintenance_net_margin,
        "initial_requirement": outcome.initial_requirement,
        "maintenance_requirement": outcome.maintenance_requirement,
    }
