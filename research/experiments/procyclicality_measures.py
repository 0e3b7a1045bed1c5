"""The three measures of Article 28(1) on real prices.

``python -m research.experiments.procyclicality_measures`` prints the table of `docs/floors.md`. It
reads hourly closes (``../shared/data``, or the folder given). Each day at 00:00 UTC the floors of
`emir-tiers` give the margin of one long position of fixed quantity, with none of the three
measures and with each. Volatilities are those of the rules: newest with a half-life of 72 h, long
over all history so far, stressed the highest week so far. The first year is look-back only.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from margin.book.requirement import compute_requirement
from margin.floors.registry import active_floors, largest_floor
from margin.rules.floors import EMIR_MEASURES, FloorRules
from margin.rules.ruleset import RuleSet, load_ruleset, ruleset_from_content
from margin.valuation.view import MarketView
from market.accounts.book import Account, Book, Position

SERIES = (
    ("ohlcv_1h_binance_spot_2017_2021", "BTCUSDT"),
    ("ohlcv_1h_binance_spot_2017_2021", "ETHUSDT"),
    ("ohlcv_1h_binance_perp", "LTCUSDT"),
    ("ohlcv_1h_binance_perp", "ATOMUSDT"),
)
LOOKBACK_HOURS = 8_760
PERIOD_HOURS = 48

Floats = npt.NDArray[np.float64]


def main() -> None:
    """Print one table: coverage and procyclicality of each measure on each series."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("../shared/data")
    base = load_ruleset("emir-tiers")
    print(
        "| series | measure | average margin | exceeded, long | exceeded, short "
        "| peak to trough | largest rise in 1 day | in 5 days |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for folder, symbol in SERIES:
        close = pd.read_parquet(data / folder / f"{symbol}.parquet").set_index("ts")["close"]
        close = close.asfreq("h").ffill()
        days = np.flatnonzero(pd.DatetimeIndex(close.index).hour == 0)
        days = days[(days >= LOOKBACK_HOURS) & (days + PERIOD_HOURS < len(close))]
        span = f"{symbol} {close.index[days[0]]:%Y-%m} to {close.index[days[-1]]:%Y-%m}"
        price = close.to_numpy()
        change = price[days + PERIOD_HOURS] / price[days] - 1.0
        for measure in (None, *EMIR_MEASURES):
            margin = margins(close, days, symbol, with_measure(base, measure))
            print(f"| {span} | {measure or 'none'} | {row(margin, change)} |")


def with_measure(base: RuleSet, measure: str | None) -> RuleSet:
    """The rule set with one measure or none, its base requirement made too small to matter."""
    content = base.content()
    for name in EMIR_MEASURES:
        content["floors"][name]["enabled"] = name == measure
    content["floors"]["liquidity"]["enabled"] = False
    content["tier"]["brackets"][0] = {"maintenance_rate": 0.001, "initial_rate": 0.001}
    del content["regulation"]
    return ruleset_from_content(content)


def margins(
    close: pd.Series[float], days: npt.NDArray[np.intp], symbol: str, ruleset: RuleSet
) -> Floats:
    """Margin over notional on each day."""
    square = pd.Series(np.log(close.to_numpy())).diff() ** 2
    newest = np.sqrt(square.ewm(halflife=72.0).mean()).to_numpy()
    long = np.sqrt(square.expanding().mean()).to_numpy()
    stressed = np.sqrt(square.rolling(168).mean()).expanding().max().to_numpy()
    book = Book.of([Account("a", 0.0, (Position(symbol, 1.0),))])
    return np.array(
        [
            margin_share(
                book,
                MarketView(
                    as_of=0,
                    symbols=(symbol,),
                    mark=np.array([close.iloc[i]]),
                    age_hours=np.zeros(1),
                    volatility=newest[i : i + 1],
                    adv=np.full(1, np.nan),
                    correlation=np.ones((1, 1)),
                    long_volatility=long[i : i + 1],
                    stressed_volatility=stressed[i : i + 1],
                    history_hours=np.array([float(i)]),
                    fast_correlation=np.ones((1, 1)),
                ),
                ruleset,
            )
            for i in days
        ]
    )


def margin_share(book: Book, view: MarketView, ruleset: RuleSet) -> float:
    """Maintenance margin plus the largest floor, over the notional."""
    rules: FloorRules = ruleset.floors
    requirement = compute_requirement(book, view, ruleset)
    floor = largest_floor(active_floors(requirement, view, rules), requirement)
    return float((requirement.maintenance_margin + floor)[0] / requirement.gross_notional[0])


def row(margin: Floats, change: Floats) -> str:
    """Average, shares of days whose next two days lose more, peak to trough, largest rises."""
    rises = [np.max(margin[n:] / margin[:-n]) - 1.0 for n in (1, 5)]
    return " | ".join(
        [
            f"{margin.mean():.1%}",
            f"{np.mean(-change > margin):.2%}",
            f"{np.mean(change > margin):.2%}",
            f"{margin.max() / margin.min():.2f}",
            *(f"{rise:.0%}" for rise in rises),
        ]
    )


if __name__ == "__main__":
    main()
