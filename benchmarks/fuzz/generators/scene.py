"""What a plausible body refers to: the current market, and ids of earlier decisions."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from benchmarks.fuzz.generators.draw import Draw
from market.core.clock import DAY, Interval

UNDERLYINGS = ("BTC", "ETH")
"""Underlyings of the options that are quoted."""

_EXPIRY_DAYS = (-20, -1, 0, 1, 2, 9, 30, 120, 400)


@dataclass
class Scene:
    """The market that bodies are about.

    Attributes
    ----------
    symbols, marks, interval:
        Of the market; a mark for each symbol.
    newest, newest_update, start_time:
        Close of the newest bar now, time of the newest bar or quote, and when the session began,
        nanoseconds.
    cash_assets, haircut_assets:
        Collateral of the rule set.
    options:
        Whether the rule set margins options.
    one_underlying:
        Whether its accounts have a single underlying.
    session:
        Number of the session: part of the ids of its accounts.
    decisions, accounts:
        Ids of decisions and of their accounts.
    idempotent:
        Idempotency keys that were used, with the bodies.
    """

    symbols: tuple[str, ...]
    marks: dict[str, float]
    interval: Interval
    newest: int
    newest_update: int
    start_time: int
    cash_assets: tuple[str, ...]
    haircut_assets: tuple[str, ...]
    options: bool
    one_underlying: bool
    session: int
    decisions: list[str] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)
    idempotent: list[tuple[str, Any]] = field(default_factory=list)
    _id_count: int = 0

    def new_id(self) -> str:
        """An account id that was not used in the session."""
        self._id_count += 1
        return f"s{self.session}-{self._id_count}"

    def expiries(self, underlying: str) -> list[str]:
        """Expiries around the start of the session, the first two in its past."""
        return [_expiry_name(underlying, self.start_time + days * DAY) for days in _EXPIRY_DAYS]

    def live_expiries(self, underlying: str) -> list[str]:
        """Expiries that were in the future then."""
        return self.expiries(underlying)[2:]

    def strikes(self, underlying: str) -> list[str]:
        """Strikes around the mark that the session began with, in whole numbers."""
        mark = self.marks[f"{underlying}USDT"]
        unit = 10.0 ** max(0, len(str(int(mark))) - 2)
        ratios = (0.5, 0.8, 0.9, 1.0, 1.1, 1.25, 2.0)
        return sorted({f"{max(1, round(mark * ratio / unit)) * unit:.0f}" for ratio in ratios})

    def option(self, draw: Draw, underlying: str, *, alive: bool = True) -> str:
        """An option of the underlying."""
        expiries = self.live_expiries(underlying) if alive else self.expiries(underlying)
        strike = draw.pick(self.strikes(underlying))
        return f"{draw.pick(expiries)}-{strike}-{draw.pick('CP')}"


def _expiry_name(underlying: str, at: int) -> str:
    day = datetime.fromtimestamp(at / 1e9, UTC)
    return f"{underlying}-{day.day}{day:%b%y}".upper()
