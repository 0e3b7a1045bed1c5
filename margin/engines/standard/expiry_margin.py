"""Margin of the options of one expiry: the sum of the isolated margins or the largest loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from margin.book.portfolio_batch import OPTION, Portfolios
from margin.engines.standard.figures import Figures
from margin.engines.standard.max_loss import option_payoff, worst_settlement
from margin.engines.standard.option_margin import isolated_margins
from margin.engines.standard.rules import StandardRules

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ExpiryMargins:
    """What decides each of G expiries, an expiry being that of one underlying in one portfolio.

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


def expiry_margins(
    portfolios: Portfolios, rules: StandardRules, figures: Figures, unit: Floats, marks: Floats
) -> ExpiryMargins:
    """The margin of every expiry, as the standard rules have it.

    Parameters
    ----------
    portfolios, rules, figures:
        What is held and asked.
    unit:
        Of the settlement currency, shape (U,), see
        `margin.engines.standard.figures.settlement_unit`.
    marks:
        Of one unit of each option, quote currency, shape (L,).
    """
    row = portfolios.underlying
    scale = unit[row]
    short = np.minimum(portfolios.quantity, 0.0)
    value = portfolios.quantity * marks / scale
    counted = value if rules.long_option_value else short * marks / scale
    initial, maintenance = (
        np.where(portfolios.quantity < 0.0, short * margin / scale, counted)
        for margin in isolated_margins(portfolios, marks, figures)
    )
    begin, end, start = _groups(portfolios)
    underlying = row[begin]
    forward = portfolios.expiries.forward[portfolios.expiry[begin]]
    price, payoff, calls, unpaired_initial, unpaired_maintenance, by_loss = _decide(
        begin,
        end,
        portfolios.quantity,
        portfolios.strike,
        portfolios.call,
        figures["unpaired_im"][underlying] * forward,
        figures["unpaired_mm"][underlying] * forward,
        unit[underlying],
        rules.max_loss_offset,
        initial,
        maintenance,
    )
    return ExpiryMargins(
        start,
        begin,
        end,
        price,
        payoff,
        calls,
        unpaired_initial,
        unpaired_maintenance,
        by_loss[0],
        by_loss[1],
        value,
        counted,
        initial,
        maintenance,
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
def _decide(  # type: ignore[no-untyped-def]
    begin, end, quantity, strike, call, unpaired_im, unpaired_mm, unit, offset, initial, maintenance
):
    """Choose the better margin of each expiry; where it is the largest loss, the legs take what
    they pay at that settlement price."""
    count = len(begin)
    price = np.zeros(count)
    payoff = np.zeros(count)
    calls = np.zeros(count)
    by_loss = np.zeros((2, count), dtype=np.bool_)
    unpaired = np.zeros((2, count))
    for g in range(count):
        worst_price, worst, net_calls = worst_settlement(begin[g], end[g], quantity, strike, call)
        price[g] = worst_price
        payoff[g] = min(worst, 0.0) / unit[g]
        calls[g] = min(net_calls, 0.0)
        unpaired[0, g] = unpaired_im[g] * calls[g] / unit[g]
        unpaired[1, g] = unpaired_mm[g] * calls[g] / unit[g]
        if not offset:
            continue
        for level in range(2):
            legs = initial if level == 0 else maintenance
            isolated = 0.0
            for leg in range(begin[g], end[g]):
                isolated += legs[leg]
            if payoff[g] + unpaired[level, g] > isolated:
                by_loss[level, g] = True
                for leg in range(begin[g], end[g]):
                    paid = option_payoff(worst_price, quantity[leg], strike[leg], call[leg])
                    legs[leg] = paid / unit[g]
    return price, payoff, calls, unpaired[0], unpaired[1], by_loss
