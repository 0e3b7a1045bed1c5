"""Store of quoted figures, each with its own time, and the board as it stood at a time.

A quote may give some figures of an instrument and leave the others as they are. The store keeps
not the quote but the figure: its newest value counts, and the few before it are kept for decisions
that name a time a little ago.

A price that the outlier filter holds as suspect (`market.quotes.quote_filter`) is kept beside the
good ones and does not count. Once something confirms it, it counts from the time of what confirmed
it on, or from its own where that is later: a board of an earlier time has it as suspect, as it was
then.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Literal

from market.core.clock import format_time
from market.core.errors import DataError, InstrumentError
from market.core.instruments import parse_expiry, parse_instrument
from market.quotes.quotes import ExpiryQuote, InstrumentQuote, QuoteBoard
from market.sources.base import Figure

HISTORY_DEPTH = 16
"""So many values of a figure are kept: the newest one and those before it."""

UNCONFIRMED = 2**63 - 1
"""`QuoteField.confirmed` of a suspect figure."""

_END = UNCONFIRMED - 1  # after every time at which something counts

Status = Literal["applied", "duplicate", "late"]

_SURFACES = ("svi", "vols")
SURFACE = "surface"
"""The second part of the key of both forms of a surface."""


@dataclass(frozen=True, slots=True)
class QuoteField:
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
    confirmed:
        When a suspect figure was confirmed, `UNCONFIRMED` as long as it is not; 0 where it was
        good at once.
    since:
        Of a suspect figure, the time of the first one of its run; else 0.
    """

    instrument: str
    figure: Figure
    ts: int
    value: tuple[float, ...]
    confirmed: int = field(default=0, compare=False)
    since: int = field(default=0, compare=False)

    @property
    def suspect(self) -> bool:
        """Whether it waits for confirmation."""
        return self.confirmed == UNCONFIRMED

    @property
    def counts_from(self) -> int:
        """Time from which it counts."""
        return max(self.ts, self.confirmed)

    @property
    def key(self) -> tuple[str, str]:
        """What it takes the place of: an expiry has one surface, in either form."""
        return self.instrument, SURFACE if self.figure in _SURFACES else self.figure


@dataclass(frozen=True, slots=True)
class _History:
    """Values of one figure by rising time, about `HISTORY_DEPTH`; not all of those before `cut`."""

    values: tuple[QuoteField, ...] = ()
    cut: int | None = None

    def at(self, as_of: int) -> QuoteField | None:
        """The value that counts at a time.

        Raises
        ------
        DataError
            It is not kept.
        """
        early = self.cut is not None and as_of < self.cut
        for figure in reversed(self.values):
            if figure.counts_from <= as_of and not early:
                return figure
        # One that was dropped may have counted then, unless there never was one that did.
        if early or (self.cut is not None and not all(figure.suspect for figure in self.values)):
            first = self.values[0]
            raise DataError(
                f"as_of {format_time(as_of)} is before {format_time(self.cut or 0)}, and what was "
                f"quoted of {first.instrument!r} before that is not kept; leave as_of out or give "
                "a later time"
            )
        return None

    def suspect_at(self, as_of: int) -> QuoteField | None:
        """The newest value at a time if it is suspect then."""
        newest = next((figure for figure in reversed(self.values) if figure.ts <= as_of), None)
        return newest if newest is not None and newest.counts_from > as_of else None

    def with_newest(self, figure: QuoteField) -> _History:
        """With a value of the newest time or a later one; a suspect one replaces no good one."""
        values = self.values
        if values and values[-1].ts == figure.ts and (values[-1].suspect or not figure.suspect):
            values = values[:-1]
        values = (*values, figure)
        if len(values) <= HISTORY_DEPTH:
            return _History(values, self.cut)
        recent = values[-HISTORY_DEPTH:]
        good = next((old for old in reversed(values[:-HISTORY_DEPTH]) if not old.suspect), None)
        if good is not None and all(figure.suspect for figure in recent):
            return _History((good, *recent[1:]), recent[1].ts)
        return _History(recent, recent[0].ts)


@dataclass(frozen=True)
class QuoteStore:
    """All figures quoted so far; never changed, only followed by another one.

    Attributes
    ----------
    newest:
        Time of the newest figure, also of one that was dropped since; None before any.
    histories:
        The newest values of each figure, by `QuoteField.key`.
    suspects:
        Keys of the figures whose newest value is suspect.
    last_confirmed:
        Newest time from which a confirmed figure counts; 0 where none was confirmed.
    """

    newest: int | None = None
    histories: Mapping[tuple[str, str], _History] = field(default_factory=dict)
    suspects: frozenset[tuple[str, str]] = frozenset()
    last_confirmed: int = 0

    @cached_property
    def instruments(self) -> frozenset[str]:
        """Identifiers of what is quoted."""
        return frozenset(instrument for instrument, _ in self.histories)

    def figures_in_force(self) -> list[QuoteField]:
        """The newest value of each figure that counts, sorted by instrument and figure."""
        newest = (self.histories[key].at(_END) for key in sorted(self.histories))
        return [figure for figure in newest if figure is not None]

    def suspect_figures(self) -> list[QuoteField]:
        """The newest value of each figure where it is suspect, sorted likewise."""
        return [self.histories[key].values[-1] for key in sorted(self.suspects)]

    def board(self, as_of: int) -> QuoteBoard | None:
        """What was known at a time; None where nothing was.

        Expiries that are over by then are left out, with their options. An expiry is on the board
        once its forward is known; without a rate that is 0.

        Raises
        ------
        DataError
            A figure was quoted so often since that its value at the time is not kept.
        """
        if self.newest is not None and as_of >= max(self.newest, self.last_confirmed):
            # One object between two expiries: what is made of a board is kept by its identity.
            over = bisect_left(self._ends, as_of)
            board = self._newest_boards.get(over)
            if board is None:
                board = _running(self._board_at(_END), as_of)
                self._newest_boards[over] = board
        else:
            board = _running(self._board_at(as_of), as_of)
        return board if board.expiries or board.instruments else None

    @cached_property
    def _newest_boards(self) -> dict[int, QuoteBoard]:
        """The newest board by how many expiries are over; the other expiries are on it."""
        return {}

    @cached_property
    def _ends(self) -> list[int]:
        """When the quoted expiries end, in order."""
        return sorted({end for name in self.instruments if (end := end_of_instrument(name))})

    def _board_at(self, as_of: int) -> QuoteBoard:
        by_name: dict[str, dict[str, QuoteField]] = defaultdict(dict)
        suspects: dict[str, dict[str, QuoteField]] = defaultdict(dict)
        for key in sorted(self.histories):
            history = self.histories[key]
            figure, suspect = history.at(as_of), history.suspect_at(as_of)
            if figure is not None:
                by_name[figure.instrument][figure.figure] = figure
            if suspect is not None:
                suspects[suspect.instrument][suspect.figure] = suspect
        expiries: dict[str, ExpiryQuote] = {}
        instruments: dict[str, InstrumentQuote] = {}
        for name in sorted(by_name.keys() | suspects.keys()):
            fields, waiting = by_name.get(name, {}), suspects.get(name, {})
            end = expiry_end(name)
            if end is None:
                instruments[name] = _instrument(fields, waiting)
            elif "forward" in fields:
                expiries[name] = _expiry(end, fields, waiting)
        return QuoteBoard(expiries, instruments)


class QuoteStoreBuilder:
    """Adds figures one by one, in the order in which they were quoted.

    Parameters
    ----------
    before:
        What was quoted before; it stays as it is.
    """

    def __init__(self, before: QuoteStore) -> None:
        self._newest = before.newest
        self._histories = dict(before.histories)
        self._instruments = set(before.instruments)
        self._suspects = set(before.suspects)
        self._last_confirmed = before.last_confirmed
        self._vols_by_expiry: dict[str, set[str]] | None = None
        self._surfaces: dict[str, set[str]] | None = None

    def __len__(self) -> int:
        return len(self._instruments)

    def __contains__(self, instrument: str) -> bool:
        return instrument in self._instruments

    def newest(self, instrument: str, figure: str) -> QuoteField | None:
        """The newest value of a figure, good or suspect; None where none was quoted."""
        history = self._histories.get((instrument, figure))
        return None if history is None else history.values[-1]

    def in_force(self, instrument: str, figure: str) -> QuoteField | None:
        """The newest value of a figure that counts; None where there is none."""
        history = self._histories.get((instrument, figure))
        if history is None:
            return None
        newest = history.values[-1]
        return history.at(_END) if newest.suspect else newest

    def suspects(self) -> list[QuoteField]:
        """The figures whose newest value is suspect, sorted by instrument and figure."""
        return [self._histories[key].values[-1] for key in sorted(self._suspects)]

    def options_with_vol(self, expiry: str) -> Collection[str]:
        """Identifiers of the options of an expiry that have a quoted vol, good or suspect."""
        if self._vols_by_expiry is None:
            self._vols_by_expiry = defaultdict(set)
            for instrument, figure in self._histories:
                if figure == "vol":
                    self._vols_by_expiry[expiry_of_option(instrument)].add(instrument)
        return self._vols_by_expiry.get(expiry, ())

    def suspect_options(self, expiry: str) -> list[str]:
        """Identifiers of the options of an expiry whose newest vol is suspect, sorted."""
        vols = (instrument for instrument, figure in self._suspects if figure == "vol")
        return sorted(option for option in vols if expiry_of_option(option) == expiry)

    def expiries_with_surface(self, underlying: str) -> Collection[str]:
        """Identifiers of the expiries of an underlying that have a surface, good or suspect."""
        if self._surfaces is None:
            self._surfaces = defaultdict(set)
            for instrument, figure in self._histories:
                if figure == SURFACE:
                    self._surfaces[instrument.partition("-")[0]].add(instrument)
        return self._surfaces.get(underlying, ())

    def status(self, figure: QuoteField) -> Status:
        """What `add` says of a figure."""
        history = self._histories.get(figure.key)
        if history is None or figure.ts > history.values[-1].ts:
            return "applied"
        if figure in history.values:
            return "duplicate"
        return "late" if figure.ts < history.values[-1].ts else "applied"

    def add(self, figure: QuoteField) -> Status:
        """Add a figure: it is newer than what is known or corrects it, is known, or is late.

        What is late changes nothing.
        """
        status = self.status(figure)
        if status != "applied":
            return status
        self._histories[figure.key] = self._histories.get(figure.key, _History()).with_newest(
            figure
        )
        self._instruments.add(figure.instrument)
        if figure.figure == "vol" and self._vols_by_expiry is not None:
            self._vols_by_expiry[expiry_of_option(figure.instrument)].add(figure.instrument)
        if figure.key[1] == SURFACE and self._surfaces is not None:
            self._surfaces[figure.instrument.partition("-")[0]].add(figure.instrument)
        self._newest = figure.ts if self._newest is None else max(self._newest, figure.ts)
        if figure.suspect:
            self._suspects.add(figure.key)
        else:
            self._suspects.discard(figure.key)
            self._last_confirmed = max(self._last_confirmed, figure.confirmed)
        return status

    def confirm(self, figure: QuoteField, at: int) -> QuoteField | None:
        """Let a suspect figure count from `at` on; None where it is not known as suspect."""
        history = self._histories.get(figure.key)
        for i, known in enumerate(() if history is None else history.values):
            if history is not None and known == figure and known.suspect:
                confirmed = replace(known, confirmed=max(at, known.ts))
                values = (*history.values[:i], confirmed, *history.values[i + 1 :])
                self._histories[figure.key] = replace(history, values=values)
                self._last_confirmed = max(self._last_confirmed, confirmed.confirmed)
                if i == len(values) - 1:
                    self._suspects.discard(figure.key)
                return confirmed
        return None

    def build(self, now: int) -> QuoteStore:
        """All figures; expiries that are over by `now` are dropped, with their options."""
        over = {name for name in self._instruments if _over(name, now)}
        running = {key: h for key, h in self._histories.items() if key[0] not in over}
        suspects = frozenset(key for key in self._suspects if key[0] not in over)
        return QuoteStore(self._newest, running, suspects, self._last_confirmed)


def restore_quotes(
    figures: Iterable[QuoteField], suspects: Iterable[QuoteField] = ()
) -> QuoteStore:
    """Figures that were in force once, and suspect ones beside them.

    What was quoted before them is not known.
    """
    builder = QuoteStoreBuilder(
        QuoteStore(None, {figure.key: _History((figure,), figure.ts) for figure in figures})
    )
    for figure in suspects:
        builder.add(figure)
    store = builder.build(0)
    times = (history.values[-1].ts for history in store.histories.values())
    return replace(store, newest=max(times, default=None))


@lru_cache(maxsize=65_536)
def expiry_end(identifier: str) -> int | None:
    """When the expiry of this identifier ends, nanoseconds; None where it is no expiry."""
    try:
        return parse_expiry(identifier)
    except InstrumentError:
        return None


def expiry_of_option(identifier: str) -> str:
    """Identifier of the expiry of an option, ``BTC-27MAR26`` of ``BTC-27MAR26-60000-C``."""
    return identifier.rsplit("-", 2)[0]


@lru_cache(maxsize=65_536)
def end_of_instrument(identifier: str) -> int | None:
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


def _running(board: QuoteBoard, as_of: int) -> QuoteBoard:
    """A board without the expiries that are over, and without their options."""
    return QuoteBoard(
        {name: quote for name, quote in board.expiries.items() if not _over(name, as_of)},
        {name: quote for name, quote in board.instruments.items() if not _over(name, as_of)},
    )


def _over(identifier: str, at: int) -> bool:
    """Whether it ended before `at`: at its own moment it still counts."""
    end = end_of_instrument(identifier)
    return end is not None and end < at


def _number(fields: Mapping[str, QuoteField], figure: str) -> float | None:
    return fields[figure].value[0] if figure in fields else None


def _number_or(fields: Mapping[str, QuoteField], figure: str, instead: float) -> float:
    return fields[figure].value[0] if figure in fields else instead


def _instrument(
    fields: Mapping[str, QuoteField], suspects: Mapping[str, QuoteField]
) -> InstrumentQuote:
    dated = [fields[name].ts for name in ("vol", "mark") if name in fields]
    times = [figure.ts for figure in (*fields.values(), *suspects.values())]
    return InstrumentQuote(
        ts=dated[0] if dated else max(times),
        mark=_number(fields, "mark"),
        vol=_number(fields, "vol"),
        funding=_number(fields, "funding"),
        confidence=_number_or(fields, "confidence", 1.0),
        open_interest=_number(fields, "open_interest"),
        implied_vol=_number(fields, "implied_vol"),
        suspect_mark=_number(suspects, "mark"),
        suspect_vol=_number(suspects, "vol"),
        suspect_ts=max((figure.ts for figure in suspects.values()), default=None),
    )


def _expiry(
    end: int, fields: Mapping[str, QuoteField], suspects: Mapping[str, QuoteField]
) -> ExpiryQuote:
    svi, vols, forward = fields.get("svi"), fields.get("vols"), fields["forward"]
    ts = min(figure.ts for figure in (svi, vols, forward) if figure is not None)
    suspect, svi_waits, vols_wait = (suspects.get(name) for name in ("forward", "svi", "vols"))
    surface = svi_waits or vols_wait
    return ExpiryQuote(
        ts=ts,
        forward=forward.value[0],
        rate=_number_or(fields, "rate", 0.0),
        svi=None if svi is None else _svi_at(ts, end, svi),
        vols={} if vols is None else _by_strike(vols),
        forward_confidence=_number_or(fields, "forward_confidence", 1.0),
        vol_confidence=_number_or(fields, "vol_confidence", 1.0),
        suspect_forward=None if suspect is None else suspect.value[0],
        suspect_ts=None if suspect is None else suspect.ts,
        suspect_svi=None if svi_waits is None else _svi_at(ts, end, svi_waits),
        suspect_vols=None if vols_wait is None else _by_strike(vols_wait),
        suspect_surface_ts=None if surface is None else surface.ts,
    )


def _by_strike(vols: QuoteField) -> dict[float, float]:
    return dict(zip(vols.value[::2], vols.value[1::2], strict=True))


def _svi_at(ts: int, end: int, surface: QuoteField) -> tuple[float, float, float, float, float]:
    """SVI parameters of the total variance left at `ts`, for the same vols as when quoted.

    Total variance is vol squared times the time left, so a and b go with the time left.
    """
    a, b, rho, m, sigma = surface.value
    if ts != surface.ts:
        scale = (end - ts) / (end - surface.ts)
        a, b = a * scale, b * scale
    return a, b, rho, m, sigma
