"""The simulated market: what Margincast runs on where there are no data at all.

`simulate_market` gives bars with what else a venue shows; `simulate_bars` the same bars alone, at
half of the memory. How prices move stands in `market.simulator.prices`, the rest in
`market.simulator.quotes`, the figures in `market.simulator.market_parameters`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from market.bars.panel import EXOGENOUS_WIDTH, BarPanel
from market.core.arrays import Bools, Floats
from market.core.clock import DAY, Interval, parse_time
from market.core.errors import ConfigError
from market.simulator.market_parameters import Coin, MarketParameters
from market.simulator.prices import PriceChunk, fill_bars
from market.simulator.quotes import Quotes, ShownQuotes
from market.simulator.streams import MARKET, Stream

DEFAULT_START = parse_time("2025-01-01T00:00:00Z")
"""Open of the first bar unless an end is given: the same data on every day."""

MAX_DAYS = 3_650


@dataclass(frozen=True, slots=True)
class SimulatedMarket:
    """A simulated market of S coins over T bars.

    Attributes
    ----------
    panel:
        Bars, with basis, funding, open interest and implied volatility as context.
    half_spread:
        Half of the quoted spread over mid, shape (T, S).
    depth:
        USD that can be traded on one side at an average cost of ten basis points, shape (T, S).
    volatility:
        What the model knows and nobody else: annualised volatility of each bar without jumps,
        season included, shape (T, S).
    stress:
        Whether the market is in stress at each bar's close, shape (T,).
    parameters:
        What it was simulated from.
    """

    panel: BarPanel
    half_spread: Floats
    depth: Floats
    volatility: Floats
    stress: Bools
    parameters: MarketParameters

    def halted(self, last_close: Mapping[str, int]) -> SimulatedMarket:
        """This market with the trading of some coins suspended.

        Parameters
        ----------
        last_close:
            By symbol, the close in nanoseconds of its last bar: what the venue shows of it later
            is NaN.

        Raises
        ------
        ConfigError
            A symbol is not simulated.
        """
        symbols = self.panel.symbols
        unknown = sorted(set(last_close).difference(symbols))
        if unknown:
            raise ConfigError(
                f"simulate.halts names {', '.join(unknown)}; the simulated market has "
                f"{', '.join(symbols)}"
            )
        values, exogenous = self.panel.values.copy(), self.panel.exogenous
        exogenous = None if exogenous is None else exogenous.copy()
        half_spread, depth = self.half_spread.copy(), self.depth.copy()
        for symbol, close in last_close.items():
            column, later = symbols.index(symbol), self.panel.closes > close
            for shown in (values, exogenous, half_spread, depth):
                if shown is not None:
                    shown[later, column] = np.nan
        panel = replace(self.panel, values=values, exogenous=exogenous)
        return replace(self, panel=panel, half_spread=half_spread, depth=depth)


def simulate_bars(
    seed: int,
    days: int,
    symbols: int,
    interval: Interval,
    end: int | None = None,
    parameters: MarketParameters | None = None,
) -> BarPanel:
    """Simulate the bars of the first `symbols` coins, without context.

    Each coin has random streams of its own, so more coins or more days never change the bars of
    fewer; another interval is another market.

    Parameters
    ----------
    seed:
        Not negative; the same seed gives the same bars.
    days:
        Length of the history, 1 to `MAX_DAYS`.
    symbols:
        Number of coins, 1 to as many as `parameters` has.
    interval:
        Length of a bar.
    end:
        Close of the last bar in nanoseconds, on the interval's grid. Without it the first bar
        opens at `DEFAULT_START`.
    parameters:
        Shape of the market; without them the figures fitted to real bars.

    Returns
    -------
    BarPanel
        days · 24 · interval.per_hour bars, symbols sorted, prices in USD, no NaN.

    Raises
    ------
    ConfigError
        A value is out of its range.
    """
    plan = _Plan.of(seed, days, symbols, interval, end, parameters)
    for _ in plan.chunks():
        pass
    return plan.panel


def simulate_market(
    seed: int,
    days: int,
    symbols: int,
    interval: Interval,
    end: int | None = None,
    parameters: MarketParameters | None = None,
) -> SimulatedMarket:
    """Simulate the first `symbols` coins with all that the model can show.

    Parameters and errors are those of `simulate_bars`, and so are the bars, to the last bit.
    Funding is known at 00:00, 08:00 and 16:00 UTC and NaN at other closes; the index of implied
    volatility is NaN for coins that have none, and so are skew, term slope and curvature;
    nothing else is missing.
    """
    plan = _Plan.of(seed, days, symbols, interval, end, parameters)
    panel = plan.panel
    shape = panel.values.shape[:2]
    shown = ShownQuotes(
        np.full((*shape, EXOGENOUS_WIDTH), np.nan), np.empty(shape), np.empty(shape)
    )
    volatility = np.empty(shape)
    stress = np.empty(len(panel), dtype=np.bool_)
    coins = plan.coins
    average = np.array([coin.volatility for coin in coins])
    average *= np.sqrt(1.0 - plan.parameters.jump_share)
    quotes = Quotes(interval, coins, plan.streams, plan.parameters)
    for chunk in plan.chunks():
        volatility[chunk.bars] = chunk.level * average
        stress[chunk.bars] = chunk.stress
        quotes.fill(chunk, panel.opens, panel.values, shown)
    return SimulatedMarket(
        panel=BarPanel(interval, panel.symbols, panel.opens, panel.values, shown.exogenous),
        half_spread=shown.half_spread,
        depth=shown.depth,
        volatility=volatility,
        stress=stress,
        parameters=plan.parameters,
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be simulated, checked; the panel is filled as `chunks` is drained."""

    parameters: MarketParameters
    coins: tuple[Coin, ...]
    streams: tuple[Stream, ...]
    panel: BarPanel

    @classmethod
    def of(
        cls,
        seed: int,
        days: int,
        symbols: int,
        interval: Interval,
        end: int | None,
        parameters: MarketParameters | None,
    ) -> _Plan:
        parameters = MarketParameters.load() if parameters is None else parameters
        known = parameters.coins
        if seed < 0:
            raise ConfigError(f"simulate.seed is {seed}; expected 0 or more")
        if not 1 <= days <= MAX_DAYS:
            raise ConfigError(f"simulate.days is {days}; expected 1 to {MAX_DAYS}")
        if not 1 <= symbols <= len(known):
            raise ConfigError(f"simulate.symbols is {symbols}; expected 1 to {len(known)}")
        if end is not None and end % interval.nanoseconds:
            raise ConfigError(
                f"the simulated market cannot end at {end} ns: with {interval.name} bars the end "
                f"must be a multiple of {interval.nanoseconds} ns"
            )
        length = days * DAY // interval.nanoseconds
        start = DEFAULT_START if end is None else end - days * DAY
        opens = start + np.arange(length, dtype=np.int64) * interval.nanoseconds
        order = sorted(range(symbols), key=lambda position: known[position].symbol)
        coins = tuple(known[position] for position in order)
        streams = (Stream(seed, MARKET), *(Stream(seed, 1 + position) for position in order))
        values = np.empty((length, symbols, 5))
        names = tuple(coin.symbol for coin in coins)
        return cls(parameters, coins, streams, BarPanel(interval, names, opens, values))

    def chunks(self) -> Iterator[PriceChunk]:
        """Fill the panel, chunk by chunk."""
        panel = self.panel
        return fill_bars(
            panel.values, panel.opens, panel.interval, self.coins, self.streams, self.parameters
        )
