"""The compiled kernel: every portfolio in every scenario, and the losses that make its margin."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from margin.engines.historical.positions import IS_OPTION, LINEAR, ShockedPositions, profit
from margin.engines.historical.rules import SimulationRules
from margin.engines.historical.scenarios import ScenarioSet

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_MOVES = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""Points of the flat shock: an option can lose most between its ends."""


class Losses(NamedTuple):
    """Simulated losses of N portfolios, settlement currency, never negative.

    Attributes
    ----------
    joint:
        Measure of the losses of all known underlyings together, shape (N,).
    netted:
        With the offsets that are allowed, at least `joint`, shape (N,).
    unknown:
        Flat shock of the underlyings without enough history, added up, shape (N,).
    leg:
        Loss of each leg in what makes ``netted + unknown``, signed, shape (L,): they add up to it
        with what collateral that is shocked with its underlying loses there.
    tail_row, tail_loss:
        Scenarios behind `joint`, the worst first, and the share of it that each makes, shape
        (N, R); row −1 beyond the last.
    used:
        Scenarios in which all known underlyings of the portfolio have a move, shape (N,).
    """

    joint: Floats
    netted: Floats
    unknown: Floats
    leg: Floats
    tail_row: Ints
    tail_loss: Floats
    used: Ints

    @property
    def total(self) -> Floats:
        """``netted + unknown``, shape (N,)."""
        return self.netted + self.unknown


class _Moves(NamedTuple):
    """What the kernels read of U underlyings and of K scenarios of S symbols.

    Attributes
    ----------
    column:
        Symbol of each underlying, −1 without one, shape (U,).
    growth, known:
        As in `ScenarioSet`, growth of shape (S, K).
    flat:
        The flat shock.
    """

    column: Ints
    growth: Floats
    known: npt.NDArray[np.bool_]
    flat: Floats


class _Measure(NamedTuple):
    """See `SimulationRules`; `shortfall`: the mean of the tail, else its mildest loss."""

    confidence: float
    shortfall: bool
    offset_cap: float


def simulated_losses(
    positions: ShockedPositions,
    legs: int,
    column: Ints,
    moves: ScenarioSet,
    rules: SimulationRules,
) -> Losses:
    r"""Revalue every portfolio in every scenario and measure its losses.

    The profit of a portfolio in a scenario is that of its linear legs, ``value * growth``, and
    of its options, revalued by Black-76 at ``forward * (1 + growth)`` with vol, rate and time as
    they are (no history of implied vol is known). Of its n losses in falling order l_1, l_2, ...,
    with ``r = max(1, floor((n + 1) * (1 - confidence)))``::

        var = l_r                                es = (l_1 + ... + l_r) / r

    var is the smallest loss that one more exchangeable period exceeds with a probability of at
    most 1 − confidence, or the worst one where n is too small for that; es the mean of what it
    leaves out, itself included. Hence ``var <= es <= worst``, and es is sub-additive. Of equal
    losses the older counts as the worse. A measure below 0 counts as 0.

    Netting between underlyings is limited: with each one's measure on its own added up to alone,
    ``netted = max(joint, alone - offset_cap * (alone - joint))``. Where the known underlyings of a
    portfolio share under half of the scenarios, joint is alone.

    An underlying without enough history is no part of joint: it adds the worst of its flat shock
    of ``unknown_move`` up and down, half of it, and of all moves it is known to have made. Nothing
    is netted with it.

    Parameters
    ----------
    positions:
        See `margin.engines.historical.positions`.
    legs:
        L.
    column:
        Column in the scenarios of each underlying, −1 without one, shape (U,).
    moves:
        The scenarios.
    rules:
        Confidence, measure, offsets and the flat shock.

    References
    ----------
    Commission Delegated Regulation (EU) No 153/2013, Articles 24 and 27(4); Acerbi, Tasche (2002),
    "On the coherence of expected shortfall".
    """
    tail = tail_length(len(moves.ended), rules.confidence)
    n = len(positions.start) - 1
    losses = Losses(
        joint=np.empty(n),
        netted=np.empty(n),
        unknown=np.empty(n),
        leg=np.zeros(legs),
        tail_row=np.full((n, tail), -1, dtype=np.int64),
        tail_loss=np.zeros((n, tail)),
        used=np.zeros(n, dtype=np.int64),
    )
    growth = np.ascontiguousarray(moves.growth.T)
    flat = rules.unknown_move * np.array(_MOVES)
    measure = _Measure(rules.confidence, rules.measure == "es", rules.offset_cap)
    _simulate(positions, _Moves(column, growth, moves.known, flat), measure, losses)
    return losses


def tail_length(scenarios: int, confidence: float) -> int:
    """r: how many of the worst losses a measure looks at."""
    length: int = _tail_length(scenarios, confidence)
    return length


@njit(cache=True, error_model="numpy")
def _tail_length(scenarios, confidence):  # type: ignore[no-untyped-def]
    # A product such as 100 * (1 - 0.99) ends a rounding error below the whole number it is.
    return max(1, int(np.floor((scenarios + 1) * (1.0 - confidence) + 1e-9)))


@njit(cache=True, error_model="numpy")
def _worst(profits, length, rows, losses):  # type: ignore[no-untyped-def]
    """Fill `rows` and `losses` with the `length` largest losses, worst first; NaN is left out."""
    found = 0
    for k in range(profits.shape[0]):
        loss = -profits[k]
        if loss != loss or (found == length and not loss > losses[found - 1]):
            continue
        place = found if found < length else length - 1
        while place > 0 and loss > losses[place - 1]:
            losses[place] = losses[place - 1]
            rows[place] = rows[place - 1]
            place -= 1
        losses[place] = loss
        rows[place] = k
        found = min(found + 1, length)
    return found


@njit(cache=True, error_model="numpy")
def _measure(profits, measure, rows, losses):  # type: ignore[no-untyped-def]
    """The measure of some profits, at least 0, the first and last (exclusive) of the losses that
    it is the mean of, and how many profits are known. No loss counts for a measure of 0."""
    known = 0
    for k in range(profits.shape[0]):
        if profits[k] == profits[k]:
            known += 1
    last = _worst(profits, _tail_length(known, measure.confidence), rows, losses)
    first = 0 if measure.shortfall else max(0, last - 1)
    value = 0.0
    for k in range(first, last):
        value += losses[k] / (last - first)
    if value <= 0.0:
        return 0.0, 0, 0, known
    return value, first, last, known


@njit(cache=True, error_model="numpy")
def _charge(of, begin, place, positions, growth, share, leg_loss):  # type: ignore[no-untyped-def]
    """Charge each leg of underlying `of` with its share of a loss at one move."""
    for x in range(begin, begin + len(place)):
        leg = positions.leg[x]
        if place[x - begin] == of and leg >= 0:
            leg_loss[leg] -= share * profit(positions.terms[x], growth)


@njit(cache=True, error_model="numpy")
def _profits(begin, place, own, positions, moves):  # type: ignore[no-untyped-def]
    """Profit of each of the underlyings `own` of a portfolio in every scenario."""
    out = np.zeros((len(own), moves.growth.shape[1]))
    for x in range(begin, begin + len(place)):
        p = place[x - begin]
        c, term, mine = moves.column[own[p]], positions.terms[x], out[p]
        if c < 0:
            mine[:] = np.nan
        elif term[IS_OPTION] == 0.0:
            value, growth = term[LINEAR], moves.growth[c]
            for k in range(growth.shape[0]):
                mine[k] += value * growth[k]
        else:
            growth = moves.growth[c]
            for k in range(growth.shape[0]):
                mine[k] += profit(term, growth[k]) if growth[k] == growth[k] else np.nan
    return out


@njit(cache=True, error_model="numpy")
def _flat_shock(of, begin, place, positions, flat, growth):  # type: ignore[no-untyped-def]
    """Worst loss of an underlying at the flat moves and at those it is known to have made, and
    the move; 0 at no move where none loses."""
    worst, at = 0.0, 0.0
    for m in range(flat.shape[0] + growth.shape[0]):
        g = flat[m] if m < flat.shape[0] else growth[m - flat.shape[0]]
        if g != g:
            continue
        loss = 0.0
        for x in range(begin, begin + len(place)):
            if place[x - begin] == of:
                loss -= profit(positions.terms[x], g)
        if loss > worst:
            worst, at = loss, g
    return worst, at


@njit(cache=True, error_model="numpy")
def _simulate(positions, moves, measure, out):  # type: ignore[no-untyped-def]
    """Fill `out`, the `Losses`."""
    scenarios, width = moves.growth.shape[1], out.tail_row.shape[1]
    rows, losses = np.empty(width, dtype=np.int64), np.empty(width)
    no_moves = np.empty(0)
    for i in range(out.joint.shape[0]):
        begin, end = positions.start[i], positions.start[i + 1]
        own = np.empty(end - begin, dtype=np.int64)
        place = np.empty(end - begin, dtype=np.int64)
        count = 0
        for x in range(begin, end):  # its underlyings in order of appearance
            p = 0
            while p < count and own[p] != positions.underlying[x]:
                p += 1
            if p == count:
                own[p] = positions.underlying[x]
                count += 1
            place[x - begin] = p
        profits = _profits(begin, place, own[:count], positions, moves)
        together = np.zeros(scenarios)
        alone = 0.0
        counts = np.zeros(count, dtype=np.bool_)
        for p in range(count):
            c = moves.column[own[p]]
            counts[p] = c >= 0 and moves.known[c]
            if counts[p]:
                together += profits[p]
                alone += _measure(profits[p], measure, rows, losses)[0]
        value, first, last, out.used[i] = _measure(together, measure, rows, losses)
        apart = 2 * out.used[i] < scenarios
        joint = alone if apart else value
        out.joint[i] = joint
        out.netted[i] = max(joint, alone - measure.offset_cap * (alone - joint))
        # What of the netted loss is the joint one's; the rest is that of each underlying alone.
        share = 0.0 if apart else (1.0 if joint >= alone else measure.offset_cap)
        for k in range(first, 0 if apart else last):
            out.tail_row[i, k - first] = rows[k]
            out.tail_loss[i, k - first] = losses[k] / (last - first)
            part = share / (last - first)
            for p in range(count):
                if counts[p]:
                    g = moves.growth[moves.column[own[p]], rows[k]]
                    _charge(p, begin, place, positions, g, part, out.leg)
        out.unknown[i] = 0.0
        for p in range(count):
            c = moves.column[own[p]]
            if not counts[p]:
                growth = moves.growth[c] if c >= 0 else no_moves
                worst, g = _flat_shock(p, begin, place, positions, moves.flat, growth)
                out.unknown[i] += worst
                _charge(p, begin, place, positions, g, 1.0, out.leg)
            elif share < 1.0:
                _, first, last, _ = _measure(profits[p], measure, rows, losses)
                for k in range(first, last):
                    part = (1.0 - share) / (last - first)
                    g = moves.growth[c, rows[k]]
                    _charge(p, begin, place, positions, g, part, out.leg)
