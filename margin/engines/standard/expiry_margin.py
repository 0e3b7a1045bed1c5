"""Margin of the options of one expiry: the sum of the isolated margins or the largest loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from margin.book.portfolio_batch import OPTION, Portfolios
from margin.engines.standard.option_margin import isolated_margins
from margin.engines.standard.rules import FiguresByName, StandardRules

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

DUST = 1e-12
"""Share of an expiry's largest quantity under which a leg is what rounding left of a closed
position: its strike is not looked at."""


@dataclass(frozen=True, slots=True)
class ExpiryMargins:
    """Margins of G expiries, an expiry being that of one underlying in one portfolio.

    Money is in the settlement currency, signed as it adds to the net margin.

    Attributes
    ----------
    start:
        Expiries of portfolio i are rows ``start[i]:start[i + 1]``, shape (N + 1,).
    begin, end:
        Their legs, shape (G,).
    worst_price, worst_payoff:
        Settlement price of the largest loss, quote currency, and the payoff there capped at 0.
    unpaired_calls:
        Calls on balance where they are short, else 0, shape (G,).
    unpaired_initial, unpaired_maintenance:
        What they cost, shape (G,).
    initial_by_loss, maintenance_by_loss:
        Whether the largest loss takes the place of the isolated sum, shape (G,).
    value, leg_initial, leg_maintenance:
        Of each leg, shape (L,): its mark value, and what it adds to the net margin (unpaired
        calls and the cap at 0 apart); 0 for legs that are no options.
    counted:
        The part of `value` that an isolated leg counts with, shape (L,).
    """

    start: Ints
    begin: Ints
    end: Ints
    worst_price: Floats
    worst_payoff: Floats
    unpaired_calls: Floats
    unpaired_initial: Floats
    unpaired_maintenance: Floats
    initial_by_loss: Bools
    maintenance_by_loss: Bools
    value: Floats
    counted: Floats
    leg_initial: Floats
    leg_maintenance: Floats

    def legs_by_loss(self, level: Bools) -> Bools:
        """Which of L legs are in an expiry that its largest loss decides."""
        out = np.zeros(len(self.value), dtype=np.bool_)
        for g in np.flatnonzero(level):
            out[self.begin[g] : self.end[g]] = True
        return out


class _Options(NamedTuple):
    """What the kernels read of L legs, shape (L,) each."""

    quantity: Floats
    strike: Floats
    call: Bools


class _Expiries(NamedTuple):
    """What the kernels read of G expiries, shape (G,) each.

    `unpaired` is the cost of one call that is short on balance, quote currency, initial and
    maintenance, shape (2, G); `unit` that of the settlement currency.
    """

    begin: Ints
    end: Ints
    unpaired: Floats
    unit: Floats


def expiry_margins(
    portfolios: Portfolios,
    rules: StandardRules,
    figures: FiguresByName,
    unit: Floats,
    marks: Floats,
) -> ExpiryMargins:
    """The margin of every expiry: the sum of isolated margins, or the largest loss if smaller.

    Parameters
    ----------
    portfolios, rules, figures:
        The positions and the rules.
    unit:
        Of the settlement currency, shape (U,), see
        `margin.engines.standard.breakdown.settlement_unit`.
    marks:
        Of one unit of each option, quote currency, shape (L,).
    """
    scale = unit[portfolios.underlying]
    short = np.minimum(portfolios.quantity, 0.0)
    value = portfolios.quantity * marks / scale
    counted = value if rules.long_option_value else short * marks / scale
    legs = np.stack(
        [
            np.where(portfolios.quantity < 0.0, short * margin / scale, counted)
            for margin in isolated_margins(portfolios, marks, figures)
        ]
    )
    begin, end, start = _groups(portfolios)
    row = portfolios.underlying[begin]
    forward = portfolios.expiries.forward[portfolios.expiry[begin]]
    unpaired = np.stack([figures[key][row] * forward for key in ("unpaired_im", "unpaired_mm")])
    price, payoff, calls, unpaired_margin, by_loss = _decide(
        _Expiries(begin, end, unpaired, unit[row]),
        _Options(portfolios.quantity, portfolios.strike, portfolios.call),
        legs,
        rules.max_loss_offset,
    )
    return ExpiryMargins(
        start=start,
        begin=begin,
        end=end,
        worst_price=price,
        worst_payoff=payoff,
        unpaired_calls=calls,
        unpaired_initial=unpaired_margin[0],
        unpaired_maintenance=unpaired_margin[1],
        initial_by_loss=by_loss[0],
        maintenance_by_loss=by_loss[1],
        value=value,
        counted=counted,
        leg_initial=legs[0],
        leg_maintenance=legs[1],
    )


def _groups(portfolios: Portfolios) -> tuple[Ints, Ints, Ints]:
    """First and last leg of each run of options of one expiry and portfolio, and the runs of each
    portfolio; in the canonical order an expiry is one run."""
    owner = np.repeat(np.arange(len(portfolios)), np.diff(portfolios.start))
    option = portfolios.kind == OPTION
    same = np.zeros(len(owner) + 1, dtype=np.bool_)
    same[1:-1] = (
        (owner[1:] == owner[:-1])
        & option[1:]
        & option[:-1]
        & (portfolios.expiry[1:] == portfolios.expiry[:-1])
    )
    begin = np.flatnonzero(option & ~same[:-1])
    end = np.flatnonzero(option & ~same[1:]) + 1
    start = np.searchsorted(owner[begin], np.arange(len(portfolios) + 1))
    return begin, end, start


@njit(cache=True, error_model="numpy")
def _decide(expiries, options, legs, offset):  # type: ignore[no-untyped-def]
    """Choose the better margin of each expiry; where it is the largest loss, its legs in `legs`,
    shape (2, L), take what they pay at that settlement price."""
    count = len(expiries.begin)
    price = np.zeros(count)
    payoff = np.zeros(count)
    calls = np.zeros(count)
    by_loss = np.zeros((2, count), dtype=np.bool_)
    unpaired = np.zeros((2, count))
    for g in range(count):
        begin, end, unit = expiries.begin[g], expiries.end[g], expiries.unit[g]
        worst_price, worst, net_calls = _worst_settlement(begin, end, options)
        price[g] = worst_price
        payoff[g] = min(worst, 0.0) / unit
        calls[g] = min(net_calls, 0.0)
        for level in range(2):
            unpaired[level, g] = expiries.unpaired[level, g] * calls[g] / unit
            if not offset:
                continue
            isolated = 0.0
            for leg in range(begin, end):
                isolated += legs[level, leg]
            if payoff[g] + unpaired[level, g] > isolated:
                by_loss[level, g] = True
                for leg in range(begin, end):
                    legs[level, leg] = _leg_payoff(worst_price, leg, options) / unit
    return price, payoff, calls, unpaired, by_loss


@njit(cache=True, error_model="numpy")
def _worst_settlement(begin, end, options):  # type: ignore[no-untyped-def]
    """Where the options in rows `begin` to `end` lose most, and what they pay there.

    The payoff is linear between strikes, so its minimum over the prices up to the highest strike
    is at 0 or at a strike; what calls short on balance lose above it is charged as unpaired calls.
    Of equal prices the lowest counts.

    Returns
    -------
    Settlement price, payoff there (quote currency, not capped), and the calls on balance.
    """
    largest = 0.0
    calls = 0.0
    for leg in range(begin, end):
        largest = max(largest, abs(options.quantity[leg]))
        if options.call[leg]:
            calls += options.quantity[leg]
    worst_price = 0.0
    worst = _payoff(0.0, begin, end, options)
    for at in range(begin, end):
        if abs(options.quantity[at]) > DUST * largest:
            payoff = _payoff(options.strike[at], begin, end, options)
            if payoff < worst:
                worst = payoff
                worst_price = options.strike[at]
    if abs(calls) <= DUST * largest:
        calls = 0.0
    return worst_price, worst, calls


@njit(cache=True, error_model="numpy")
def _payoff(price, begin, end, options):  # type: ignore[no-untyped-def]
    payoff = 0.0
    for leg in range(begin, end):
        payoff += _leg_payoff(price, leg, options)
    return payoff


@njit(cache=True, error_model="numpy")
def _leg_payoff(price, leg, options):  # type: ignore[no-untyped-def]
    """Payoff at a settlement price: ``quantity * max(+-(price - strike), 0)``."""
    inner = price - options.strike[leg] if options.call[leg] else options.strike[leg] - price
    return options.quantity[leg] * inner if inner > 0.0 else 0.0
