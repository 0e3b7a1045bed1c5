"""What decisions read of a market and not of the accounts: made once, however many calls ask."""

from __future__ import annotations

from dataclasses import dataclass

from features.registry import STALE_INTERVALS, WARM_UP_HOURS
from features.state.snapshot import MarketSnapshot
from margin.valuation.view import MarketView
from market.core.identity_cache import IdentityCache


@dataclass(frozen=True, slots=True)
class MarketBasis:
    """A market at one decision time.

    Attributes
    ----------
    as_of:
        The time, nanoseconds.
    view:
        What the rules may know of it.
    volatility_ratio:
        `MarketSnapshot.volatility_ratio`.
    symbol_reasons:
        Why the model cannot be asked about each symbol; None where it can. Length S.
    """

    as_of: int
    view: MarketView
    volatility_ratio: float
    symbol_reasons: tuple[str | None, ...]


class _Market:
    """A market whose clock goes on: what does not depend on it, and the newest basis."""

    def __init__(self, snapshot: MarketSnapshot) -> None:
        self._volatility_ratio = snapshot.volatility_ratio()
        self._newest: MarketBasis | None = None

    def at(self, snapshot: MarketSnapshot) -> MarketBasis:
        """The basis at the time of a snapshot of this market."""
        newest = self._newest
        if newest is None or newest.as_of != snapshot.as_of:
            newest = MarketBasis(
                snapshot.as_of, snapshot.view(), self._volatility_ratio, _symbol_reasons(snapshot)
            )
            self._newest = newest
        return newest


_markets: IdentityCache[_Market] = IdentityCache(8)


def market_basis(snapshot: MarketSnapshot) -> MarketBasis:
    """What decisions read of a snapshot; kept for the newest few states of the market."""
    parts = (*snapshot.recorded_parts, snapshot.quotes)
    return _markets.get(parts, lambda: _Market(snapshot)).at(snapshot)


def _symbol_reasons(snapshot: MarketSnapshot) -> tuple[str | None, ...]:
    features, per_hour = snapshot.features, snapshot.interval.per_hour
    usable = snapshot.usable()
    reasons: list[str | None] = [None] * len(usable)
    for s in (~usable).nonzero()[0].tolist():
        name, age, history = features.symbols[s], features.age[0, s], features.history[0, s]
        if not age <= STALE_INTERVALS / per_hour:
            reasons[s] = f"stale market data: the newest bar of {name} closed {age:.2f} h ago"
        elif not history >= WARM_UP_HOURS:
            reasons[s] = f"warm-up: {name} has {history:g} h of history, {WARM_UP_HOURS} needed"
        else:
            reasons[s] = f"incomplete market data: {name} lacks a feature or a mark"
    return tuple(reasons)
