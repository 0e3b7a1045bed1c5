"""Quotes as they were told: each figure with its own time, and the board as it stood at a time.

A quote may give some figures of an instrument and leave the others as they are. So what is kept is
not the quote but the figure: its newest value counts, and the few before it are kept for decisions
that name a time a little ago.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Literal

from market.clock import format_time
from market.errors import DataError, InstrumentError
from market.instruments import parse_expiry, parse_instrument
from market.quotes import ExpiryQuote, InstrumentQuote, QuoteBoard

KEPT = 16
"""So many values of a figure are kept: the newest one and those before it."""

Figure = Literal[
    "mark",
    "vol",
    "funding",
    "confidence",
    "open_interest",
    "implied_vol",
    "forward",
    "rate",
    "svi",
    "vols",
    "forward_confidence",
    "vol_confidence",
]
"""What can be told. An expiry has either ``svi`` or ``vols``: the newer one takes the place of the
other, and all strikes are told anew."""

Status = Literal["applied", "duplicate", "late"]

_SURFACE = ("svi", "vols")


@dataclass(frozen=True, slots=True)
class ToldFigure:
    """One figure of one instrument or expiry.

    Attributes
    ----------
    instrument:
        Identifier of the instrument or expiry.
    figure:
        What it is.
    ts:
        When it held, nanoseconds.
    value:
        One number; of ``svi`` the five parameters; of ``vols`` strike and vol in turn, strikes
        rising.
    """

    instrument: str
    figure: Figure
    ts: int
    value: tuple[float, ...]

    @property
    def key(self) -> tuple[str, str]:
        """What it takes the place of: an expiry has one surface, in either form."""
        return self.instrument, "surface" if self.figure in _SURFACE else self.figure


@dataclass(frozen=True, slots=True)
class _History:
    """Values of one figure by rising time, at most `KEPT`; `cut` if there were more."""

    told: tuple[ToldFigure, ...]
    cut: bool = False

    def at(self, as_of: int) -> ToldFigure | None:
        for figure in reversed(self.told):
            if figure.ts <= as_of:
                return figure
        if self.cut:
            first = self.told[0]
            raise DataError(
                f"as_of {format_time(as_of)} is before {format_time(first.ts)}, and what was told "
                f"of {first.instrument!r} before that is not kept; leave as_of out or give a later "
                "time"
            )
        return None


@dataclass(frozen=True)
class ToldQuotes:
    """All figures told so far; never changed, only followed by another one.

    Attributes
    ----------
    newest:
        Time of the newest figure, also of one that was dropped since; None before any.
    histories:
        The newest values of each figure, by `ToldFigure.key`.
    """

    newest: int | None = None
    histories: Mapping[tuple[str, str], _History] = field(default_factory=dict)

    @cached_property
    def instruments(self) -> frozenset[str]:
        """Identifiers of what something is told of."""
        return frozenset(instrument for instrument, _ in self.histories)

    def newest_figures(self) -> list[ToldFigure]:
        """The newest value of each figure, sorted by instrument and figure."""
        return [self.histories[key].told[-1] for key in sorted(self.histories)]

    def board(self, as_of: int) -> QuoteBoard | None:
        """What was known at a time; None where nothing was.

        Expiries that are over by then are left out, with their options. An expiry is on the board
        once its forward is known; without a rate that is 0.

        Raises
        ------
        DataError
            A figure was told so often since that its value at the time is not kept.
        """
        if self.newest is not None and as_of >= self.newest:
            return self._running(as_of, self._whole)
        return self._running(as_of, self._board_at(as_of))

    @cached_property
    def _whole(self) -> QuoteBoard:
        return self._board_at(2**63 - 1)

    @cached_property
    def _first_end(self) -> int:
        """When the first expiry on the board ends."""
        return min((end for name in self.instruments if (end := ends(name))), default=2**63 - 1)

    def _running(self, as_of: int, board: QuoteBoard) -> QuoteBoard | None:
        if as_of > self._first_end:
            board = QuoteBoard(
                {n: quote for n, quote in board.expiries.items() if not _over(n, as_of)},
                {n: quote for n, quote in board.instruments.items() if not _over(n, as_of)},
            )
        return board if board.expiries or board.instruments else None

    def _board_at(self, as_of: int) -> QuoteBoard:
        by_name: dict[str, dict[str, ToldFigure]] = defaultdict(dict)
        for key in sorted(self.histories):
            figure = self.histories[key].at(as_of)
            if figure is not None:
                by_name[figure.instrument][figure.figure] = figure
        expiries: dict[str, ExpiryQuote] = {}
        instruments: dict[str, InstrumentQuote] = {}
        for name, told in by_name.items():
            end = expiry_end(name)
            if end is None:
                instruments[name] = _instrument(told)
            elif "forward" in told:
                expiries[name] = _expiry(end, told)
        return QuoteBoard(expiries, instruments)


class QuoteIntake:
    """Takes figures one by one, in the order in which they were told.

    Parameters
    ----------
    before:
        What was told before; it stays as it is.
    """

    def __init__(self, before: ToldQuotes) -> None:
        self._newest = before.newest
        self._histories = dict(before.histories)
        self._instruments = set(before.instruments)

    def __len__(self) -> int:
        return len(self._instruments)

    def __contains__(self, instrument: str) -> bool:
        return instrument in self._instruments

    def newest(self, instrument: str, figure: str) -> ToldFigure | None:
        """The newest value of a figure; None where it is not known."""
        history = self._histories.get((instrument, figure))
        return None if history is None else history.told[-1]

    def take(self, figure: ToldFigure) -> Status:
        """Take a figure: it is newer than what is known or corrects it, is known, or is late.

        What is late changes nothing.
        """
        history = self._histories.get(figure.key)
        told = () if history is None else history.told
        if figure in told:
            return "duplicate"
        if told and figure.ts < told[-1].ts:
            return "late"
        if told and figure.ts == told[-1].ts:
            told = told[:-1]
        cut = history is not None and (history.cut or len(told) == KEPT)
        self._histories[figure.key] = _History((*told, figure)[-KEPT:], cut)
        self._instruments.add(figure.instrument)
        self._newest = figure.ts if self._newest is None else max(self._newest, figure.ts)
        return "applied"

    def told(self, now: int) -> ToldQuotes:
        """All figures; expiries that are over by `now` are dropped, with their options."""
        over = {name for name in self._instruments if _over(name, now)}
        kept = {key: told for key, told in self._histories.items() if key[0] not in over}
        return ToldQuotes(self._newest, kept)


def figures_in_force(figures: Iterable[ToldFigure]) -> ToldQuotes:
    """Figures that were the newest of their kind once; what was told before them is not known."""
    found = {figure.key: _History((figure,), cut=True) for figure in figures}
    newest = max((history.told[0].ts for history in found.values()), default=None)
    return ToldQuotes(newest, found)


@lru_cache(maxsize=65_536)
def expiry_end(identifier: str) -> int | None:
    """When the expiry of this identifier ends, nanoseconds; None where it is no expiry."""
    try:
        return parse_expiry(identifier)
    except InstrumentError:
        return None


@lru_cache(maxsize=65_536)
def ends(identifier: str) -> int | None:
    """When an expiry or option ends, nanoseconds; None where the instrument never does."""
    if "-" not in identifier or identifier.endswith("-PERP"):
        return None
    end = expiry_end(identifier)
    if end is not None:
        return end
    try:
        return parse_instrument(identifier).expiry
    except InstrumentError:  # a cash asset may have any name
        return None


def _over(identifier: str, at: int) -> bool:
    """Whether it ended before `at`: at its own moment it still counts."""
    end = ends(identifier)
    return end is not None and end < at


def _number(told: Mapping[str, ToldFigure], figure: str) -> float | None:
    return told[figure].value[0] if figure in told else None


def _number_or(told: Mapping[str, ToldFigure], figure: str, instead: float) -> float:
    return told[figure].value[0] if figure in told else instead


def _instrument(told: Mapping[str, ToldFigure]) -> InstrumentQuote:
    held = [told[name].ts for name in ("vol", "mark") if name in told]
    return InstrumentQuote(
        ts=held[0] if held else max(figure.ts for figure in told.values()),
        mark=_number(told, "mark"),
        vol=_number(told, "vol"),
        funding=_number(told, "funding"),
        confidence=_number_or(told, "confidence", 1.0),
        open_interest=_number(told, "open_interest"),
        implied_vol=_number(told, "implied_vol"),
    )


def _expiry(end: int, told: Mapping[str, ToldFigure]) -> ExpiryQuote:
    svi, vols, forward = told.get("svi"), told.get("vols"), told["forward"]
    ts = min(figure.ts for figure in (svi, vols, forward) if figure is not None)
    return ExpiryQuote(
        ts=ts,
        forward=forward.value[0],
        rate=_number_or(told, "rate", 0.0),
        svi=None if svi is None else _svi_at(ts, end, svi),
        vols={} if vols is None else dict(zip(vols.value[::2], vols.value[1::2], strict=True)),
        forward_confidence=_number_or(told, "forward_confidence", 1.0),
        vol_confidence=_number_or(told, "vol_confidence", 1.0),
    )


def _svi_at(ts: int, end: int, told: ToldFigure) -> tuple[float, float, float, float, float]:
    """SVI parameters of the total variance left at `ts`, for the same vols as when they were told.

    Total variance is vol squared times the time left, so a and b go with the time left.
    """
    a, b, rho, m, sigma = told.value
    if ts != told.ts:
        scale = (end - ts) / (end - told.ts)
        a, b = a * scale, b * scale
    return a, b, rho, m, sigma
