"""Liquidation figures of margin cases (``liquidation --cases``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from margin.cases.margin_cases import answer_case, read_case
from margin.liquidation.account import liquidation_of
from margin.rules.ruleset import RuleSet, ruleset_from_content
from market.core.errors import CaseError


def run_liquidation_case(line: bytes, number: int = 1) -> dict[str, Any]:
    """Compute the liquidation figures of a case under its rules.

    Parameters
    ----------
    line, number:
        As for `margin.cases.margin_cases.run_case`; ``isolated`` may give the margin of isolated
        positions by instrument, and ``liquidation`` a table that takes the place of the rule set's.

    Returns
    -------
    ``{"id", "maintenance_net_margin", "mark_to_market", "underlyings", "legs", "step", "auction",
    "auction_fee", "rules", "ruleset_sha256"}``. Prices are null where none between a thousandth and
    a hundred times today's liquidates; ``passed`` says that the account is below already;
    ``limit_price`` in the step is null where the rules limit no order. Nothing is sent anywhere. A
    case that cannot be computed gives ``{"id", "error"}``.
    """
    return answer_case(line, number, _liquidation_figures)


def _liquidation_figures(case: Mapping[str, Any]) -> dict[str, Any]:
    portfolio, ruleset = read_case(case)
    ruleset = _with_table(ruleset, case.get("liquidation"))
    figures = liquidation_of(portfolio, ruleset, _isolated(case.get("isolated")))
    names = [leg.instrument for leg in figures.legs if not leg.isolated]
    return {
        "maintenance_net_margin": figures.net,
        "mark_to_market": figures.mark_to_market,
        "underlyings": {
            name: {"price": portfolio.underlyings[name].spot, **asdict(levels)}
            for name, levels in figures.underlyings.items()
        },
        "legs": [
            {
                "instrument": leg.instrument,
                "margin": "isolated" if leg.isolated else "cross",
                "price": leg.price,
                **asdict(leg.levels),
            }
            for leg in figures.legs
        ],
        "step": asdict(figures.step)
        | {
            "shares": [
                {"instrument": name, "share": share, "limit_price": limit}
                for name, share, limit in zip(
                    names, figures.step.shares, figures.limit_prices, strict=True
                )
            ]
        },
        "auction": [asdict(offer) for offer in figures.auction],
        "auction_fee": figures.auction_fee,
        "rules": "default" if "liquidation" not in ruleset.content() else "rule set",
        "ruleset_sha256": ruleset.sha256,
    }


def _with_table(ruleset: RuleSet, table: object) -> RuleSet:
    if table is None:
        return ruleset
    content = ruleset.content() | {"liquidation": table}
    return ruleset_from_content(content, origin=f"{ruleset.name} with the case's liquidation")


def _isolated(margins: object) -> dict[str, float]:
    if margins is None:
        return {}
    if not isinstance(margins, dict) or not all(
        isinstance(margin, int | float) and not isinstance(margin, bool)
        for margin in margins.values()
    ):
        raise CaseError(
            f"isolated is {margins!r}; expected an object of margins by instrument, as in "
            '{"BTC-PERP": 100.0}'
        )
    return {name: float(margin) for name, margin in margins.items()}
