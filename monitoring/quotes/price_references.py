"""Reference prices of quotes for the outlier filter, and the sources that confirm a quote.

The last good price of a mark is the newest of the last good marks of the symbol and of its
perpetual and the symbol's last accepted close; of a forward its own while it is fresh, else that
of its underlying; of a cash asset its own, else 1. Sources of an underlying are its two marks and
the close of its newest bar, good or suspect: each may confirm the others. Vols have their
own references (`monitoring.quotes.vol_references`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from market.bars.outlier_filter import MAX_GAP_HOURS, OutlierFilter
from market.bars.panel import CLOSE
from market.core.clock import HOUR
from market.quotes.quote_filter import (
    GOOD,
    SOURCE_INTERVALS,
    FilterInputs,
    Kind,
    QuoteVerdict,
    TimedPrice,
    filter_quote,
    within,
)
from market.quotes.quote_store import QuoteField, QuoteStoreBuilder, expiry_end
from monitoring.market_state.state import LiveMarketState
from monitoring.quotes.vol_references import VolReferences

_PERPETUAL = "-PERP"

PRICES = ("mark", "forward")
"""Fields whose suspect values prices confirm."""


@dataclass(frozen=True, slots=True)
class PriceReferences:
    """Prices around a quote.

    Attributes
    ----------
    state:
        The market with its bars.
    store:
        The quotes so far.
    outlier_filter:
        Parameters of the outlier filter.
    columns:
        Column of each symbol.
    """

    state: LiveMarketState
    store: QuoteStoreBuilder
    outlier_filter: OutlierFilter
    columns: Mapping[str, int]

    def verdict(
        self, field: QuoteField, column: int | None, beside: Sequence[QuoteField] = ()
    ) -> QuoteVerdict:
        """The verdict of the filter on a field; anything but a price or a vol of options is good.

        Parameters
        ----------
        field:
            Newer than what is known of it.
        column:
            Of its symbol; None for options, expiries and cash assets.
        beside:
            Fields of the same quote that passed the filter.
        """
        if field.figure in ("vol", "svi", "vols"):
            return self.vols.verdict(field, beside)
        price = TimedPrice(field.ts, field.value[0])
        in_force = self._in_force(field.instrument, field.figure)
        newest = self.store.newest(field.instrument, field.figure)
        waiting = None
        if newest is not None and newest.suspect and abs(newest.ts - field.ts) <= self._reach:
            waiting = newest
        reference: TimedPrice | None
        sources: Iterable[TimedPrice] = ()
        kind: Kind = "price"
        if field.figure == "forward":
            underlying = self.underlying(field.instrument)
            if underlying is None:
                return GOOD
            fresh = in_force is not None and abs(in_force.ts - field.ts) <= self._reach
            reference = in_force if fresh else self._last_good(underlying) or in_force
            sources = self._sources(underlying, field)
        elif field.figure == "mark" and column is not None:
            reference = self._last_good(column)
            sources = self._sources(column, field)
        elif field.figure == "mark" and self._is_cash(field.instrument):
            reference, kind = in_force or TimedPrice(0, 1.0), "cash"
        else:
            return GOOD
        context = FilterInputs(
            reference,
            None if waiting is None else _price(waiting),
            0 if waiting is None else waiting.since,
            sources,
            kind,
        )
        return filter_quote(price, context, self.outlier_filter)

    def confirm_near(self, column: int, price: TimedPrice) -> list[QuoteField]:
        """Confirm the suspect quotes of a symbol, and of forwards on it, near a good price.

        Returns
        -------
        The fields that count now.
        """
        confirmed = []
        for field in self.store.suspects():
            if field.figure not in PRICES or abs(field.ts - price.ts) > self._reach:
                continue
            same_symbol = self.underlying(field.instrument) == column
            if same_symbol and within(_price(field), price, self.outlier_filter):
                counts = self.store.confirm(field, price.ts)
                confirmed += [] if counts is None else [counts]
        return confirmed

    @property
    def vols(self) -> VolReferences:
        """The references of quoted vols of options."""
        return VolReferences(self.store, self.outlier_filter, self._reach, self._spot, self._index)

    def underlying(self, instrument: str) -> int | None:
        """Column of the symbol that a mark or forward is of; None for anything else."""
        if expiry_end(instrument) is not None:
            coin = instrument.partition("-")[0]
            return self.columns.get(coin, self.columns.get(f"{coin}USDT"))
        return self.columns.get(instrument.removesuffix(_PERPETUAL))

    def newest_bar(self, column: int, ts: int) -> TimedPrice | None:
        """Close of the newest bar of a symbol near a time, good or suspect."""
        step = self.state.interval.nanoseconds
        last = self._last_close(column)
        hard = math.log(self.outlier_filter.hard_band)
        near = (o for o in self.state.received_bars if abs(o + step - ts) <= self._reach)
        for open_ in sorted(near, reverse=True):
            close = float(self.state.received_bars[open_][column, CLOSE])
            if math.isnan(close):
                continue
            # A bar that was rejected is no source.
            if last is None or abs(math.log(close / last.value)) <= hard:
                return TimedPrice(open_ + step, close)
        return None

    @property
    def _reach(self) -> int:
        return SOURCE_INTERVALS * self.state.interval.nanoseconds

    def _spot(self, expiry: str) -> TimedPrice | None:
        column = self.underlying(expiry)
        return None if column is None else self._last_good(column)

    def _index(self, expiry: str) -> TimedPrice | None:
        """Vol index of the underlying of an expiry."""
        column = self.underlying(expiry)
        names = () if column is None else self._marks(column)
        known = [self._in_force(name, "implied_vol") for name in names]
        vols = [vol for vol in known if vol is not None]
        return max(vols, key=lambda vol: vol.ts, default=None)

    def _is_cash(self, instrument: str) -> bool:
        # Options have marks too, without a reference.
        return "-" not in instrument

    def _in_force(self, instrument: str, field: str) -> TimedPrice | None:
        known = self.store.in_force(instrument, field)
        return None if known is None else _price(known)

    def _marks(self, column: int) -> tuple[str, str]:
        symbol = self.state.head.symbols[column]
        return symbol, f"{symbol}{_PERPETUAL}"

    def _last_good(self, column: int) -> TimedPrice | None:
        known = [self._in_force(name, "mark") for name in self._marks(column)]
        known.append(self._last_close(column))
        prices = [price for price in known if price is not None]
        return max(prices, key=lambda price: price.ts, default=None)

    def _last_close(self, column: int) -> TimedPrice | None:
        """The last accepted close: the mark of the bars."""
        value = float(self.state.mark[column])
        newest, features = self.state.newest_close, self.state.features
        if math.isnan(value) or newest is None or features is None:
            return None
        hours = float(features.age[0, column])
        hours = MAX_GAP_HOURS if math.isnan(hours) else hours
        return TimedPrice(newest - round(hours * HOUR), value)

    def _sources(self, column: int, field: QuoteField) -> Iterator[TimedPrice]:
        for name in self._marks(column):
            known = self.store.newest(name, "mark")
            if known is None or name == field.instrument:
                continue
            if abs(known.ts - field.ts) <= self._reach:
                yield _price(known)
        bar = self.newest_bar(column, field.ts)
        if bar is not None:
            yield bar


def _price(field: QuoteField) -> TimedPrice:
    return TimedPrice(field.ts, field.value[0])
