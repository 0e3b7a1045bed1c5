"""Write the documentation pages that are generated from the code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from features.definition import AccountFeature, Feature
from features.registry import (
    ACCOUNT_FEATURES,
    CORRELATION_HALF_LIFE_HOURS,
    CROSS_FEATURES,
    FAST_CORRELATION_HALF_LIFE_HOURS,
    GROUP_FEATURES,
    MARKET_FEATURES,
    PRIOR_VOLATILITIES,
    WARM_UP_HOURS,
)
from research.pages.markdown import table

FEATURES_PAGE = Path(__file__).resolve().parents[2] / "docs" / "features.md"

_COLUMNS = ("name", "family", "unit", "formula", "NaN", "monotone", "reference")
_DIRECTION = {1: "rises", -1: "falls", 0: "free"}


def features_page() -> str:
    """Markdown of `docs/features.md`: every feature of the registry, in its order."""
    sections: tuple[tuple[str, str, Sequence[Feature]], ...] = (
        (
            "Market features",
            "One number per symbol, updated by each bar. r is the log return of a bar, O H L C V "
            "its open, high, low, close and volume, n the number of bars an hour, W the bars of "
            f"the window. A symbol is scored once it has {WARM_UP_HOURS} hours of history; "
            "features of funding, basis, open interest and implied volatility are NaN in a market "
            "that lacks them. A gap of over a day resets every feature except "
            f"{_listed([f.name for f in MARKET_FEATURES if f.survives_gaps])}.",
            MARKET_FEATURES,
        ),
        (
            "Cross features",
            "One number per symbol from the correlation matrices of all symbols, exponentially "
            f"weighted with half-lives of {CORRELATION_HALF_LIFE_HOURS:g} h (slow) and "
            f"{FAST_CORRELATION_HALF_LIFE_HOURS:g} h (fast), and from implied volatilities.",
            CROSS_FEATURES,
        ),
        (
            "Volatility forecast",
            "One number per symbol from hourly bars, whatever the interval of the market: g is the "
            "variance of an hour, s the seasonal profile by hour of the week, which all symbols "
            "share, w = g exp(-s). A gap of over a day erases none of these memories. "
            "`margincast fit-volatility` fits the coefficients beta.",
            GROUP_FEATURES,
        ),
        (
            "Account features",
            "One number per account: the input columns of a model. Sigma in the prior is the root "
            f"of the mean variance under {_listed(PRIOR_VOLATILITIES)}.",
            ACCOUNT_FEATURES,
        ),
    )
    parts = [
        "# Features",
        "Generated from `features/registry.py` by `make docs`; do not edit.",
        "Monotone is the direction in which the probability of a call may move as the feature "
        "rises: it rises, falls, or is free to do either. Market and cross features reach a "
        "model through account features only, so the direction is stated there.",
    ]
    for title, text, features in sections:
        parts += [f"## {title}", text, table(_COLUMNS, map(_row, features))]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the generated pages."""
    FEATURES_PAGE.write_text(features_page(), encoding="utf-8")


def _row(feature: Feature) -> tuple[str, ...]:
    direction = _DIRECTION[feature.monotone] if isinstance(feature, AccountFeature) else ""
    return (
        f"`{feature.name}`",
        feature.family,
        feature.unit,
        f"`{feature.formula}`",
        _nan_policy(feature),
        direction,
        feature.reference,
    )


def _nan_policy(feature: Feature) -> str:
    """The sentences of the factory's docstring that say when there is no number."""
    text = " ".join(feature.doc.partition("References\n---")[0].split())
    clauses = [clause.strip(" .") for clause in re.split(r"[.;] ", text) if "NaN" in clause]
    return "; ".join(clause.removeprefix("NaN ") for clause in clauses) or "never"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    main()
