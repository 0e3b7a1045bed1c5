"""Coverage and procyclicality of the historical simulation on real prices.

``python -m research.experiments.simulation_coverage`` prints the tables of
`docs/experiments/historical-simulation.md`. It reads hourly bars (``../shared/data``, or the folder
given). 200 portfolios of fixed quantities, drawn as `reference-v1` draws books, are margined each
day at 00:00 UTC with the daily closes known by then, under every variant of `emir-ccp`; the loss is
that of the next two days. The first year of each market is look-back only.

Exceedances of all days overlap by a day; the tests take every second day, whose windows do not.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.state.market_state import MarketFeatures, MarketState
from features.state.snapshot import MarketSnapshot
from margin.book.case_batch import flatten
from margin.book.case_portfolio import Holding, Portfolio, Underlying
from margin.book.portfolio_batch import Portfolios
from margin.book.requirement import compute_requirement
from margin.engines.historical.rules import SimulationRules
from margin.engines.historical.scenarios import historical_scenarios
from margin.engines.registry import compute_margins
from margin.floors.registry import active_floors, largest_floor
from margin.rules.ruleset import RuleSet, load_ruleset, ruleset_from_content
from market.accounts.book import Account, Book, Position
from market.bars.history import MarketHistory, load_history
from market.core.clock import DAY, INTERVALS, format_time
from market.core.errors import DataError
from market.sources.parquet import BarFolder
from training.backtest.var_backtests import conditional_coverage, kupiec

MARKETS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "BTC and ETH": ("ohlcv_1h_binance_spot_2017_2021", ("BTCUSDT", "ETHUSDT")),
    "six perps": (
        "ohlcv_1h_binance_perp",
        ("AAVEUSDT", "ALGOUSDT", "ATOMUSDT", "ETCUSDT", "LTCUSDT", "UNIUSDT"),
    ),
    "eight spot": (
        "ohlcv_1h_binance_spot",
        tuple(f"{coin}USDT" for coin in ["ADA", "BNB", "BTC", "DOGE", "ETH", "LINK", "SOL", "XRP"]),
    ),
}
PORTFOLIOS = 200
SEED = 26
PERIOD_DAYS = 2
LOOKBACK_DAYS = 367
BLOCK = 250
OPTIONS = ("none", "buffer", "stressed_weight", "long_volatility")

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Market:
    """A market with its portfolios at D days.

    `price` and `loss` have shapes (D, S) and (K, D); `gross` is the notional, shape (K, D);
    `volatile` marks the tenth of the days that began in the highest volatility over that of ten
    years.
    """

    history: MarketHistory
    features: MarketFeatures
    rows: Ints
    price: Floats
    portfolios: Portfolios
    book: Book
    loss: Floats
    gross: Floats
    volatile: npt.NDArray[np.bool_]


def main() -> None:
    """Print a table for each market."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("../shared/data")
    for name, (folder, symbols) in MARKETS.items():
        market = read_market(data / folder, symbols)
        closes = market.history.bars.closes[market.rows]
        print(
            f"\n### {name}: {len(closes)} days, {format_time(int(closes[0]))[:10]} to "
            f"{format_time(int(closes[-1]))[:10]}\n"
        )
        print(HEAD)
        for label, ruleset in variants().items():
            print(f"| {label} | {figures(market, simulated_margin(market, ruleset))} |", flush=True)
        for label, ruleset in with_floors().items():
            print(f"| {label} | {figures(market, floored_margin(market, ruleset))} |", flush=True)


HEAD = (
    "| measure, filter, option | average margin | exceeded | wild days | worst portfolio "
    "| Kupiec p | Christoffersen p | not rejected | green, yellow, red | peak to trough "
    "| largest rise in 1, 5, 20 days |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)


def variants() -> dict[str, RuleSet]:
    """Measure, filter and option in all combinations; then the filter's figures one by one."""
    rulesets = {}
    for measure in ("var", "es"):
        for half_life in (None, 10.0):
            for option in OPTIONS:
                name = "unfiltered" if half_life is None else "10 d"
                rulesets[f"{measure}, {name}, {option}"] = variant(measure, half_life, option)
    for half_life in (3.0, 5.0, 20.0, 40.0):
        label = f"var, {half_life:g} d, long_volatility"
        rulesets[label] = variant("var", half_life, "long_volatility")
    for least, most in ((1.0, 3.0), (0.5, 2.0), (0.25, 6.0)):
        rulesets[f"var, 10 d within {least:g} to {most:g}, long_volatility"] = variant(
            "var", 10.0, "long_volatility", {"least_ratio": least, "most_ratio": most}
        )
    for option in OPTIONS[1:]:
        rulesets[f"var, 20 d within 0.5 to 2, {option}"] = variant(
            "var", 20.0, option, {"least_ratio": 0.5, "most_ratio": 2.0}
        )
    return rulesets


def variant(
    measure: str, half_life: float | None, option: str, ratios: dict[str, float] | None = None
) -> RuleSet:
    """`emir-ccp` with another measure, filter and option against procyclicality."""
    content = load_ruleset("emir-ccp").content()
    del content["regulation"]
    simulation = content["simulation"]
    simulation["measure"] = measure
    if half_life is None:
        simulation.pop("filter", None)
    else:
        simulation["volatility_half_life_days"] = half_life
        simulation["filter"] = ratios or {"least_ratio": 0.5, "most_ratio": 3.0}
    for name in OPTIONS[1:]:
        simulation[name]["enabled"] = name == option
    return ruleset_from_content(content)


def with_floors() -> dict[str, RuleSet]:
    """The presets with the floors on coverage, the others switched off."""
    rulesets = {}
    for name in ("emir-ccp", "emir-tiers"):
        content = load_ruleset(name).content()
        for floor in ("liquidity", "stale_data", "wrong_way"):
            content["floors"][floor]["enabled"] = False
        rulesets[f"`{name}` and floors on coverage"] = ruleset_from_content(content)
    return rulesets


def read_market(folder: Path, symbols: tuple[str, ...]) -> Market:
    """The market, its days after the look-back, and the portfolios of all these days."""
    outlier_filter = load_ruleset("emir-ccp").price_guard.outlier_filter()
    history = load_history([BarFolder(folder, "spot")], INTERVALS["1h"], symbols, outlier_filter)
    features = MarketState(history.bars.symbols, history.bars.interval).advance(history.bars)
    mark = np.array([history.last_mark(row) for row in range(len(history.mark))])
    midnight = np.flatnonzero(history.bars.closes % DAY == 0)
    whole = midnight[~np.isnan(mark[midnight]).any(axis=1)]
    rows = whole[LOOKBACK_DAYS:-PERIOD_DAYS].astype(np.int64)
    price = mark[rows]
    weight = draw_weights(len(symbols))
    quantity = weight / price[0]
    change = mark[rows + 24 * PERIOD_DAYS] - price
    names = history.bars.symbols
    stress = np.array([_stress(features, row) for row in rows.tolist()])
    accounts = [
        Account(str(k), 0.0, tuple(Position(n, q) for n, q in zip(names, own, strict=True) if q))
        for k, own in enumerate(quantity.tolist())
    ]
    return Market(
        history,
        features,
        rows,
        price,
        flat_portfolios(names, quantity),
        Book.of(accounts),
        -(quantity @ change.T),
        np.abs(quantity) @ price.T,
        stress >= np.quantile(stress, 0.9),
    )


def _stress(features: MarketFeatures, row: int) -> float:
    daily = features.daily_at(row)
    if daily is None:
        raise DataError("the features bring no daily closes; advance a market state to make them")
    return historical_scenarios(
        daily, load_ruleset("emir-ccp").engine_rules(SimulationRules)
    ).stress


def draw_weights(coins: int) -> Floats:
    """Signed weights as `reference-v1` draws them, shape (K, S): one to four coins, exponential
    weights, seven of ten long."""
    rng = np.random.default_rng(SEED)
    out = np.zeros((PORTFOLIOS, coins))
    for own in out:
        count = min(coins, int(rng.integers(1, 5)))
        chosen = rng.choice(coins, size=count, replace=False)
        weights = rng.exponential(size=count)
        side = np.where(rng.random(count) < 0.7, 1.0, -1.0)
        own[chosen] = side * weights / weights.sum()
    return out


def flat_portfolios(names: tuple[str, ...], quantity: Floats) -> Portfolios:
    """The portfolios as arrays, at prices of 1."""
    portfolios = []
    for own in quantity:
        held = {n: q for n, q in zip(names, own.tolist(), strict=True) if q}
        portfolios.append(
            Portfolio(
                cash=0.0,
                stable_price=1.0,
                underlyings={n: Underlying(spot=1.0) for n in held},
                positions=tuple(
                    Holding(kind="spot", underlying=n, quantity=q) for n, q in held.items()
                ),
                collateral=(),
            )
        )
    return flatten(portfolios, load_ruleset("emir-ccp").collateral)


def simulated_margin(market: Market, ruleset: RuleSet) -> Floats:
    """Maintenance margin of every portfolio on every day, shape (K, D)."""
    names = market.history.bars.symbols
    column = [names.index(name) for name in market.portfolios.underlyings.name]
    out = np.empty(market.loss.shape)
    for d, row in enumerate(market.rows.tolist()):
        spot = market.price[d][column]
        priced = replace(
            market.portfolios,
            underlyings=replace(market.portfolios.underlyings, spot=spot),
            history=market.features.daily_at(row),
        )
        margins = compute_margins(priced, ruleset)
        out[:, d] = margins.mark_to_market - margins.maintenance_net
    return out


def floored_margin(market: Market, ruleset: RuleSet) -> Floats:
    """Maintenance margin plus the largest floor, shape (K, D)."""
    out = np.empty(market.loss.shape)
    for d, row in enumerate(market.rows.tolist()):
        as_of = int(market.history.bars.closes[row])
        view = MarketSnapshot.of_history(market.history, market.features, as_of).view()
        requirement = compute_requirement(market.book, view, ruleset)
        floors = active_floors(requirement, view, ruleset.floors)
        out[:, d] = requirement.maintenance_margin + largest_floor(floors, requirement)
    return out


def figures(market: Market, margin: Floats) -> str:
    """One row of the table; medians over the portfolios unless stated otherwise."""
    hits = market.loss > margin
    apart = hits[:, ::PERIOD_DAYS]
    windows = apart.shape[1]
    counted = [kupiec(int(own.sum()), windows, 0.01).p_value for own in apart]
    joint = np.array([conditional_coverage(own, 0.01).p_value for own in apart])
    blocks = apart[:, : windows // BLOCK * BLOCK].reshape(PORTFOLIOS, -1, BLOCK).sum(axis=2)
    light = [np.mean(blocks <= 4), np.mean((blocks > 4) & (blocks < 10)), np.mean(blocks >= 10)]
    rate = margin / market.gross
    rises = [np.median((rate[:, n:] / rate[:, :-n] - 1.0).max(axis=1)) for n in (1, 5, 20)]
    cells: list[Any] = [
        f"{rate.mean():.1%}",
        f"{hits.mean():.2%}",
        f"{hits[:, market.volatile].mean():.2%}",
        f"{hits.mean(axis=1).max():.2%}",
        f"{np.median(counted):.3f}",
        f"{np.median(joint):.3f}",
        f"{np.mean(joint >= 0.05):.0%}",
        ", ".join(f"{share:.0%}" for share in light),
        f"{np.median(rate.max(axis=1) / rate.min(axis=1)):.2f}",
        ", ".join(f"{rise:.0%}" for rise in rises),
    ]
    return " | ".join(cells)


if __name__ == "__main__":
    main()
