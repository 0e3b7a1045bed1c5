"""Reference levels of quoted vols for the outlier filter, and the sources that confirm them.

The level of an option's vol is the vol itself; that of a surface, in either form, its vol at the
forward. The last good level is that of the same thing. Without one, or where it is older than a day
and the other one newer, it is for an option the vol of its expiry's surface at its strike, for a
surface the one of the expiry nearest in time, else the vol index of its underlying. Away from the
money a surface may move more: there only the hard band holds, against the surface in force.

A suspect surface and a vol of an option near the money confirm each other, and so does the index a
surface; a good surface confirms every vol of an option near it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from margin.valuation.marks import YEAR
from market.bars.outlier_filter import MAX_GAP_HOURS, OutlierFilter
from market.core.arrays import Bools, Floats
from market.core.clock import DAY
from market.core.instruments import parse_instrument
from market.quotes.quote_filter import (
    GOOD,
    FilterInputs,
    QuoteVerdict,
    TimedPrice,
    filter_quote,
    within,
)
from market.quotes.quote_store import (
    SURFACE,
    QuoteField,
    QuoteStoreBuilder,
    expiry_end,
    expiry_of_option,
)

NEAR_MONEY = 0.05
"""Options whose strike lies within this log distance of the forward quote the vol at the money."""

NEAR_TENOR = 3.0
"""Surfaces whose times to expiry differ by this factor or less have similar levels at the money; of
others, levels differ by more than a vol moves in an hour."""

INDEX_TENOR = 30 * DAY
"""Term of a vol index."""

_WINGS = np.array([-2.0, -1.0, 1.0, 2.0])
"""Standard deviations from the forward at which a surface without strikes is checked."""


@dataclass(frozen=True, slots=True)
class VolReferences:
    """Vols around a quoted one.

    Attributes
    ----------
    store:
        The quotes so far.
    outlier_filter:
        Parameters of the outlier filter.
    reach:
        Fields within this time of each other are compared, nanoseconds.
    spot, index:
        Last good price and vol index of the underlying of an expiry, given its identifier.
    """

    store: QuoteStoreBuilder
    outlier_filter: OutlierFilter
    reach: int
    spot: Callable[[str], TimedPrice | None]
    index: Callable[[str], TimedPrice | None]

    def verdict(self, field: QuoteField, beside: Sequence[QuoteField] = ()) -> QuoteVerdict:
        """The verdict of the filter on an option's vol or a surface.

        Parameters
        ----------
        field:
            Newer than what is known of it.
        beside:
            Fields of the same quote that passed the filter.
        """
        newest = self.store.newest(*field.key)
        suspect = newest if newest is not None and newest.suspect else None
        if suspect is not None and abs(suspect.ts - field.ts) > self.reach:
            suspect = None
        if field.figure == "vol":
            level = TimedPrice(field.ts, field.value[0])
            waiting = None if suspect is None else TimedPrice(suspect.ts, suspect.value[0])
            reference, hours = self._option_reference(field)
        else:
            forward = self._forward(field.instrument, beside)
            at_money = None if forward is None else surface_level(field, forward, forward)
            if forward is None or at_money is None:
                return GOOD
            far = self._beyond_hard_band(field, suspect, forward)
            if far is not None:
                return QuoteVerdict("rejected", far)
            waiting = None if suspect is None else surface_level(suspect, forward, forward)
            repeated = suspect is not None and suspect.value == field.value
            # The same parameters again are an echo, also where time or forward move their level.
            level = TimedPrice(field.ts, (waiting if repeated and waiting else at_money).value)
            reference, hours = self._surface_reference(field, forward)
        since = suspect.since if suspect is not None and waiting is not None else 0
        context = FilterInputs(reference, waiting, since, kind="vol", least_hours=hours)
        return filter_quote(level, context, self.outlier_filter)

    def confirm_by(self, fields: Iterable[QuoteField]) -> list[QuoteField]:
        """Confirm suspect vols and surfaces that agree with new fields.

        Parameters
        ----------
        fields:
            Added just now, good or suspect.

        Returns
        -------
        The fields that count now.
        """
        confirmed: list[QuoteField] = []
        for field in fields:
            if field.figure == "vol":
                expiry = expiry_of_option(field.instrument)
                surface = self._confirm_surface(expiry, [field.instrument])
                confirmed += surface
                confirmed += self._confirm_options(expiry, None if surface else [field.instrument])
            elif field.key[1] == SURFACE:
                confirmed += self._confirm_surface(field.instrument)
                confirmed += self._confirm_options(field.instrument)
            elif field.figure == "implied_vol":
                for known in self.store.suspects():
                    if known.key[1] == SURFACE:
                        confirmed += self._confirm_surface(known.instrument, [])
                        confirmed += self._confirm_options(known.instrument)
        return confirmed

    def _confirm_surface(
        self, expiry: str, options: Iterable[str] | None = None
    ) -> list[QuoteField]:
        """Confirm a suspect surface by the index or by vols of options near the money."""
        surface = self.store.newest(expiry, SURFACE)
        forward = None if surface is None or not surface.suspect else self._forward(expiry)
        at_money = (
            None if forward is None or surface is None else surface_level(surface, forward, forward)
        )
        if surface is None or forward is None or at_money is None:
            return []
        times = []
        index = self.index(expiry)
        if index is not None and self._agrees(index, at_money):
            times.append(index.ts)
        for option in self.store.options_with_vol(expiry) if options is None else options:
            strike = _strike(option)
            known = self.store.newest(option, "vol")
            if known is None or abs(math.log(strike / forward)) > NEAR_MONEY:
                continue
            level = surface_level(surface, strike, forward)
            if level is not None and self._agrees(TimedPrice(known.ts, known.value[0]), level):
                times.append(known.ts)
        counts = self.store.confirm(surface, min(times)) if times else None
        return [] if counts is None else [counts]

    def _confirm_options(
        self, expiry: str, options: Iterable[str] | None = None
    ) -> list[QuoteField]:
        """Confirm suspect vols of options by the surface of their expiry, where that is good."""
        surface, forward = self.store.newest(expiry, SURFACE), self._forward(expiry)
        if surface is None or surface.suspect or forward is None:
            return []
        confirmed = []
        for option in self.store.suspect_options(expiry) if options is None else options:
            known = self.store.newest(option, "vol")
            if known is None or not known.suspect:
                continue
            level = surface_level(surface, _strike(option), forward)
            if level is not None and self._agrees(TimedPrice(known.ts, known.value[0]), level):
                counts = self.store.confirm(known, surface.ts)
                confirmed += [] if counts is None else [counts]
        return confirmed

    def _agrees(self, price: TimedPrice, other: TimedPrice) -> bool:
        return abs(price.ts - other.ts) <= self.reach and within(price, other, self.outlier_filter)

    def _forward(self, expiry: str, beside: Sequence[QuoteField] = ()) -> float | None:
        """The forward in force, with the good ones beside it; else the price of the underlying."""
        known = [f for f in beside if f.figure == "forward" and not f.suspect]
        in_force = self.store.in_force(expiry, "forward")
        known += [] if in_force is None else [in_force]
        if known:
            return max(known, key=lambda field: field.ts).value[0]
        spot = self.spot(expiry)
        return None if spot is None else spot.value

    def _option_reference(self, field: QuoteField) -> tuple[TimedPrice | None, float]:
        """Last good level of an option's vol, and the hours that its band is for at least."""
        quoted = self.store.in_force(field.instrument, "vol")
        known = None if quoted is None else TimedPrice(quoted.ts, quoted.value[0])
        if known is not None and field.ts - known.ts <= DAY:
            return known, 1.0
        expiry, strike = expiry_of_option(field.instrument), _strike(field.instrument)
        surface, forward = self.store.in_force(expiry, SURFACE), self._forward(expiry)
        if surface is None or forward is None or not _is_newer(surface.ts, known):
            return known, 1.0
        covered = bool(_covered(surface, np.array([strike]))[0])
        return surface_level(surface, strike, forward), 1.0 if covered else MAX_GAP_HOURS

    def _surface_reference(
        self, field: QuoteField, forward: float
    ) -> tuple[TimedPrice | None, float]:
        """Last good level of a surface, and the hours that its band is for at least."""
        quoted = self.store.in_force(field.instrument, SURFACE)
        known = None if quoted is None else surface_level(quoted, forward, forward)
        if known is not None and field.ts - known.ts <= DAY:
            return known, 1.0
        left = _years_left(field, field.ts)
        if not left > 0.0:
            return known, 1.0

        def distance(expiry: str) -> float:
            its_left = ((expiry_end(expiry) or 0) - field.ts) / YEAR
            return abs(math.log(its_left / left)) if its_left > 0.0 else math.inf

        near = math.log(NEAR_TENOR)
        expiries = self.store.expiries_with_surface(field.instrument.partition("-")[0])
        for far, expiry in sorted((distance(expiry), expiry) for expiry in expiries):
            surface, its_forward = self.store.in_force(expiry, SURFACE), self._forward(expiry)
            if surface is None or its_forward is None or not _is_newer(surface.ts, known):
                continue
            level = surface_level(surface, its_forward, its_forward)
            if level is not None and far < math.inf:
                return level, 1.0 if far <= near else MAX_GAP_HOURS
        index = self.index(field.instrument)
        if index is None or not _is_newer(index.ts, known):
            return known, 1.0
        far = abs(math.log(INDEX_TENOR / YEAR / left))
        return index, 1.0 if far <= near else MAX_GAP_HOURS

    def _beyond_hard_band(
        self, field: QuoteField, suspect: QuoteField | None, forward: float
    ) -> str | None:
        """Why a surface is rejected for a vol away from the money; None where it is not.

        Strikes outside those of the surface in force are not compared: its vol is not known there.
        Nor are they with a surface older than a day: wings change their shape towards expiry.
        """
        in_force = self.store.in_force(field.instrument, SURFACE)
        if in_force is None or field.ts - in_force.ts > DAY:
            return None
        if field.figure == "vols":
            strikes = np.array(field.value[::2])
        else:
            at_money = surface_level(field, forward, forward)
            spread = 0.0 if at_money is None else at_money.value
            spread *= math.sqrt(max(0.0, _years_left(field, field.ts)))
            # Beyond four times the forward there is hardly anything listed.
            strikes = forward * np.exp(np.clip(_WINGS * spread, -math.log(4.0), math.log(4.0)))
        new = _vols_at(field, strikes, forward)
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = np.abs(np.log(new / _vols_at(in_force, strikes, forward)))
            if suspect is not None:
                nearer = np.abs(np.log(new / _vols_at(suspect, strikes, forward)))
                distance = np.fmin(distance, nearer)
        distance[~_covered(in_force, strikes)] = 0.0
        worst = int(np.argmax(np.nan_to_num(distance, nan=0.0)))
        if not distance[worst] > math.log(self.outlier_filter.hard_band):
            return None
        return (
            f"{new[worst]:g} at the strike {strikes[worst]:g} is beyond a factor of "
            f"{self.outlier_filter.hard_band:g} from that of the surface in force; quote vols "
            "annual and as a fraction, 0.5 for 50%"
        )


def _is_newer(ts: int, known: TimedPrice | None) -> bool:
    return known is None or ts > known.ts


def surface_level(surface: QuoteField, strike: float, forward: float) -> TimedPrice | None:
    """Vol of a surface at a strike; None where it is no number above 0."""
    vol = float(_vols_at(surface, np.array([strike]), forward)[0])
    return TimedPrice(surface.ts, vol) if 0.0 < vol < math.inf else None


def _vols_at(surface: QuoteField, strikes: Floats, forward: float) -> Floats:
    """Vols of a surface at strikes, as `option_vol` finds them one by one."""
    if surface.figure == "vols":
        quoted, vols = np.array(surface.value[::2]), np.array(surface.value[1::2])
        squares = np.interp(np.log(strikes), np.log(quoted), np.square(vols))
        return np.asarray(np.sqrt(squares), dtype=np.float64)
    years = _years_left(surface, surface.ts)
    a, b, rho, m, sigma = surface.value
    k = np.log(strikes) - math.log(forward) - m
    with np.errstate(all="ignore"):
        squares = (a + b * (rho * k + np.hypot(k, sigma))) / years
        return np.asarray(np.sqrt(squares), dtype=np.float64)


def _covered(surface: QuoteField, strikes: Floats) -> Bools:
    """Where a surface gives the vol: between its outermost strikes, SVI everywhere."""
    if surface.figure == "svi":
        return np.ones(len(strikes), dtype=np.bool_)
    low, high = surface.value[0], surface.value[-2]
    inside: Bools = (low <= strikes) & (strikes <= high)
    return inside


def _years_left(surface: QuoteField, at: int) -> float:
    end = expiry_end(surface.instrument)
    return 0.0 if end is None else (end - at) / YEAR


def _strike(option: str) -> float:
    strike = parse_instrument(option).strike
    return math.nan if strike is None else strike
