"""What the outlier filter holds a quoted price against in the live market, and what confirms it.

The last good price of a mark is the newest of the last good marks of the symbol and of its
perpetual and the symbol's last accepted close; of a forward its own while it is fresh, else that
of its underlying; of a cash asset its own, else 1. Sources of an underlying are its two marks and
the close of its newest bar, good or suspect: each may confirm the others. Vols have references of
their own (`monitoring.quotes.vol_references`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from market.bars.outlier_filter import MAX_GAP_HOURS, PriceGuard
from market.bars.panel import CLOSE
from market.core.clock import HOUR
from market.quotes.quote_filter import (
    GOOD,
    SOURCE_INTERVALS,
    Kind,
    QuoteContext,
    QuoteVerdict,
    TimedPrice,
    filter_quote,
    within,
)
from market.quotes.quote_store import QuoteField, QuoteStoreBuilder, expiry_end
from monitoring.market_state.live_market_state import LiveMarketState
from monitoring.quotes.vol_references import VolReferences

_PERPETUAL = "-PERP"

PRICES = ("mark", "forward")
"""Figures whose suspect values prices confirm."""


@dataclass(frozen=True, slots=True)
class QuoteReferences:
    """Prices around a quote.

    Attributes
    ----------
    moment:
        The market with its bars.
    intake:
        The quotes so far.
    guard:
        Parameters of the outlier filter.
    columns:
        Column of each symbol.
    """

    moment: LiveMarketState
    intake: QuoteStoreBuilder
    guard: PriceGuard
    columns: Mapping[str, int]

    def verdict(
        self, figure: QuoteField, column: int | None, beside: Sequence[QuoteField] = ()
    ) -> QuoteVerdict:
        """What the filter says of a figure; anything but a price or a vol of options is good.

        Parameters
        ----------
        figure:
            Newer than what is known of it.
        column:
            Of its symbol; None for options, expiries and cash assets.
        beside:
            Figures of the same quote that passed the filter.
        """
        if figure.figure in ("vol", "svi", "vols"):
            return self.vols.verdict(figure, beside)
        price = TimedPrice(figure.ts, figure.value[0])
        own = self._in_force(figure.instrument, figure.figure)
        newest = self.intake.newest(figure.instrument, figure.figure)
        held = None
        if newest is not None and newest.suspect and abs(newest.ts - figure.ts) <= self._reach:
            held = newest
        reference: TimedPrice | None
        sources: Iterable[TimedPrice] = ()
        kind: Kind = "price"
        if figure.figure == "forward":
            underlying = self.underlying(figure.instrument)
            if underlying is None:
                return GOOD
            fresh = own is not None and abs(own.ts - figure.ts) <= self._reach
            reference = own if fresh else self._last_good(underlying) or own
            sources = self._sources(underlying, figure)
        elif figure.figure == "mark" and column is not None:
            reference = self._last_good(column)
            sources = self._sources(column, figure)
        elif figure.figure == "mark" and self._is_cash(figure.instrument):
            reference, kind = own or TimedPrice(0, 1.0), "cash"
        else:
            return GOOD
        context = QuoteContext(
            reference,
            None if held is None else _price(held),
            0 if held is None else held.since,
            sources,
            kind,
        )
        return filter_quote(price, context, self.guard)

    def confirm_near(self, column: int, price: TimedPrice) -> list[QuoteField]:
        """Confirm the suspect quotes of a symbol, and of forwards on it, near a good price.

        Returns
        -------
        The figures that count now.
        """
        confirmed = []
        for figure in self.intake.suspects():
            if figure.figure not in PRICES or abs(figure.ts - price.ts) > self._reach:
                continue
            own = self.underlying(figure.instrument) == column
            if own and within(_price(figure), price, self.guard):
                counts = self.intake.confirm(figure, price.ts)
                confirmed += [] if counts is None else [counts]
        return confirmed

    @property
    def vols(self) -> VolReferences:
        """What quoted vols of options are held against."""
        return VolReferences(self.intake, self.guard, self._reach, self._spot, self._index)

    def underlying(self, instrument: str) -> int | None:
        """Column of the symbol that a mark or forward is of; None for anything else."""
        if expiry_end(instrument) is not None:
            coin = instrument.partition("-")[0]
            return self.columns.get(coin, self.columns.get(f"{coin}USDT"))
        return self.columns.get(instrument.removesuffix(_PERPETUAL))

    def newest_bar(self, column: int, ts: int) -> TimedPrice | None:
        """Close of the newest bar of a symbol near a time, good or suspect."""
        step = self.moment.interval.nanoseconds
        last = self._last_close(column)
        hard = math.log(self.guard.hard_band)
        near = (o for o in self.moment.told if abs(o + step - ts) <= self._reach)
        for open_ in sorted(near, reverse=True):
            close = float(self.moment.told[open_][column, CLOSE])
            if math.isnan(close):
                continue
            # A bar that was rejected is no source.
            if last is None or abs(math.log(close / last.value)) <= hard:
                return TimedPrice(open_ + step, close)
        return None

    @property
    def _reach(self) -> int:
        return SOURCE_INTERVALS * self.moment.interval.nanoseconds

    def _spot(self, expiry: str) -> TimedPrice | None:
        column = self.underlying(expiry)
        return None if column is None else self._last_good(column)

    def _index(self, expiry: str) -> TimedPrice | None:
        """Vol index of the underlying of an expiry."""
        column = self.underlying(expiry)
        names = () if column is None else self._marks(column)
        known = [self._in_force(name, "implied_vol") for name in names]
        found = [vol for vol in known if vol is not None]
        return max(found, key=lambda vol: vol.ts, default=None)

    def _is_cash(self, instrument: str) -> bool:
        # Options have marks too, with nothing to hold them against.
        return "-" not in instrument

    def _in_force(self, instrument: str, figure: str) -> TimedPrice | None:
        known = self.intake.in_force(instrument, figure)
        return None if known is None else _price(known)

    def _marks(self, column: int) -> tuple[str, str]:
        symbol = self.moment.head.symbols[column]
        return symbol, f"{symbol}{_PERPETUAL}"

    def _last_good(self, column: int) -> TimedPrice | None:
        known = [self._in_force(name, "mark") for name in self._marks(column)]
        known.append(self._last_close(column))
        prices = [price for price in known if price is not None]
        return max(prices, key=lambda price: price.ts, default=None)

    def _last_close(self, column: int) -> TimedPrice | None:
        """The last accepted close: the mark of the bars."""
        value = float(self.moment.mark[column])
        newest, features = self.moment.newest_close, self.moment.features
        if math.isnan(value) or newest is None or features is None:
            return None
        hours = float(features.age[0, column])
        hours = MAX_GAP_HOURS if math.isnan(hours) else hours
        return TimedPrice(newest - round(hours * HOUR), value)

    def _sources(self, column: int, figure: QuoteField) -> Iterator[TimedPrice]:
        for name in self._marks(column):
            known = self.intake.newest(name, "mark")
            if known is None or name == figure.instrument:
                continue
            if abs(known.ts - figure.ts) <= self._reach:
                yield _price(known)
        bar = self.newest_bar(column, figure.ts)
        if bar is not None:
            yield bar


def _price(figure: QuoteField) -> TimedPrice:
    return TimedPrice(figure.ts, figure.value[0])
