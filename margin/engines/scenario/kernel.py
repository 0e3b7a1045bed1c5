"""The kernel of the scenario engine: every account in every scenario, in one pass."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from margin.book.portfolio_batch import OPTION
from margin.engines.scenario.grid import LINEAR, Grid
from margin.engines.scenario.parameters import SECONDS_PER_YEAR, Parameters
from margin.engines.scenario.revaluation import (
    MOVES,
    Option,
    Rows,
    discounts,
    fill_forwards,
    fill_values,
    fill_vols,
    vol_multipliers,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NO_LOSS = -1
"""In the place of the worst row: no row loses."""


class Legs(NamedTuple):
    """What the kernels read of L legs, see `Portfolios`; shape (L,) each.

    `price` is that of a leg that is no option. Options that share an expiry stand together.
    """

    kind: npt.NDArray[np.int8]
    expiry: Ints
    quantity: Floats
    strike: Floats
    vol: Floats
    call: Bools
    price: Floats


class Terms(NamedTuple):
    """What the kernels read of E expiries, shape (E,) each."""

    seconds: Floats
    forward: Floats
    rate: Floats


class Inputs(NamedTuple):
    """What every unit is revalued with."""

    legs: Legs
    terms: Terms
    grid: Grid
    parameters: Parameters


@njit(cache=True, error_model="numpy", nogil=True)
def scenario_kernel(start, inputs, collateral):  # type: ignore[no-untyped-def]
    """Profit and loss of G units (an account in one underlying) in R scenarios.

    Per expiry: x, the sum of the options' values in the scenario, is discounted statically, by
    ``long`` where it is positive and by ``short`` where it is negative; less today's value and
    times the dampening it is the scenario's result, in the skew rows ``-|...|``. The basis
    contingency of an expiry is ``min(x(up) - today, x(down) - today, 0) * (basis_add_factor +
    basis_mult_factor * tau)``, without static discount.

    Parameters
    ----------
    start:
        Offsets of the units' legs, shape (G + 1,).
    inputs:
        `Inputs`.
    collateral:
        Value that moves with the spot, shape (G,).

    Returns
    -------
    Profit and loss, shape (G, R); basis contingency, at most 0, shape (G,); worst row, shape (G,):
    its number, R for the basis contingency, `NO_LOSS`; value today of each option, 0 for other
    legs, shape (L,); share of each leg in the worst, shape (L,).
    """
    grid = inputs.grid
    units, rows = len(start) - 1, len(grid.spot) - 3
    pnl = np.zeros((units, rows))
    basis = np.zeros(units)
    worst = np.full(units, NO_LOSS, dtype=np.int64)
    value = np.zeros(len(inputs.legs.kind))
    share = np.zeros(len(inputs.legs.kind))
    scratch = np.empty((4, rows + 3))
    for unit in range(units):
        begin, end = start[unit], start[unit + 1]
        basis[unit] = _fill_pnl(begin, end, inputs, scratch, pnl[unit])
        for row in range(rows):
            pnl[unit, row] += collateral[unit] * (grid.spot[row] - 1.0) * grid.dampening[row]
        worst[unit] = _worst_row(pnl[unit], basis[unit])
        _fill_shares(begin, end, inputs, worst[unit], value, share)
    return pnl, basis, worst, value, share


@njit(cache=True, error_model="numpy", nogil=True)
def _fill_pnl(leg, end, inputs, scratch, pnl):  # type: ignore[no-untyped-def]
    """Add the results of the legs of one unit to `pnl`; returns its basis contingency."""
    legs, terms, grid, parameters = inputs
    rows = len(pnl)
    own, total = scratch[2], scratch[3]
    shocked = Rows(scratch[0], scratch[1], grid.move)
    nodes = np.empty(2 * (rows + 3))
    vols = np.empty(MOVES)
    basis = 0.0
    while leg < end:
        if legs.kind[leg] != OPTION:
            linear = legs.quantity[leg] * legs.price[leg]
            for row in range(rows):
                pnl[row] += linear * (grid.spot[row] - 1.0) * grid.dampening[row]
            leg += 1
            continue
        e = legs.expiry[leg]
        tau = terms.seconds[e] / SECONDS_PER_YEAR
        forward = terms.forward[e]
        fill_forwards(terms.seconds[e], forward, grid.spot, grid.log_spot, shocked)
        up, down = vol_multipliers(terms.seconds[e], parameters)
        total[:] = 0.0
        while leg < end and legs.kind[leg] == OPTION and legs.expiry[leg] == e:
            strike, quantity = legs.strike[leg], legs.quantity[leg]
            option = Option(strike, math.log(forward / strike), tau, legs.call[leg])
            fill_vols(legs.vol[leg], option.moneyness, tau, up, down, parameters, vols)
            fill_values(option, vols, shocked, nodes, own)
            for row in range(rows + 3):
                total[row] += quantity * own[row]
            leg += 1
        discount, long, short = discounts(tau, terms.rate[e], parameters)
        for row in range(rows + 3):
            total[row] *= discount
        today = total[rows + 2]
        for row in range(rows):
            change = total[row] * (long if total[row] >= 0.0 else short) - today
            if grid.move[row] >= LINEAR:
                change = -abs(change)
            pnl[row] += change * grid.dampening[row]
        lost = min(total[rows] - today, total[rows + 1] - today)
        if not lost >= 0.0:  # a NaN too
            basis += lost * (parameters.basis_add_factor + parameters.basis_mult_factor * tau)
    return basis


@njit(cache=True, error_model="numpy", nogil=True)
def _worst_row(pnl, basis):  # type: ignore[no-untyped-def]
    """Row of the lowest result below 0, the first of equals; a NaN counts as the worst."""
    worst, lowest = NO_LOSS, 0.0
    for row in range(len(pnl)):
        if math.isnan(pnl[row]):
            return row
        if pnl[row] < lowest:
            worst, lowest = row, pnl[row]
    if not basis >= lowest:
        worst = len(pnl)
    return worst


@njit(cache=True, error_model="numpy", nogil=True)
def _fill_shares(leg, end, inputs, worst, value, share):  # type: ignore[no-untyped-def]
    """Fill today's value of the options of one unit, and each leg's share of the worst result.

    Values are computed as in `_fill_pnl`, so the shares add up to the worst but for rounding.
    """
    legs, terms, grid, parameters = inputs
    rows = len(grid.spot) - 3
    is_basis = worst == rows
    pick = np.full(3, rows + 2)
    if is_basis:
        pick[0], pick[1] = rows, rows + 1
    elif worst != NO_LOSS:
        pick[0] = worst
    spot, log_spot, move = grid.spot[pick], grid.log_spot[pick], grid.move[pick]
    shocked = Rows(np.empty(3), np.empty(3), move)
    own, nodes, vols = np.empty(3), np.empty(6), np.empty(MOVES)
    changed = np.empty((2, end - leg))
    while leg < end:
        if legs.kind[leg] != OPTION:
            if 0 <= worst < rows:
                linear = legs.quantity[leg] * legs.price[leg]
                share[leg] = linear * (spot[0] - 1.0) * grid.dampening[worst]
            leg += 1
            continue
        e, first = legs.expiry[leg], leg
        tau = terms.seconds[e] / SECONDS_PER_YEAR
        forward = terms.forward[e]
        fill_forwards(terms.seconds[e], forward, spot, log_spot, shocked)
        up, down = vol_multipliers(terms.seconds[e], parameters)
        discount, long, short = discounts(tau, terms.rate[e], parameters)
        today, one, other = 0.0, 0.0, 0.0
        while leg < end and legs.kind[leg] == OPTION and legs.expiry[leg] == e:
            strike, quantity = legs.strike[leg], legs.quantity[leg]
            option = Option(strike, math.log(forward / strike), tau, legs.call[leg])
            fill_vols(legs.vol[leg], option.moneyness, tau, up, down, parameters, vols)
            fill_values(option, vols, shocked, nodes, own)
            changed[0, leg - first] = discount * quantity * own[0]
            changed[1, leg - first] = discount * quantity * own[1]
            value[leg] = discount * quantity * own[2]
            one += changed[0, leg - first]
            other += changed[1, leg - first]
            today += value[leg]
            leg += 1
        if worst == NO_LOSS:
            continue
        case, factor = 0, 1.0
        if is_basis:
            case = 1 if other < one else 0
            weight = parameters.basis_add_factor + parameters.basis_mult_factor * tau
            if min(one, other) >= today:
                weight = 0.0
        else:
            factor = long if one >= 0.0 else short
            weight = grid.dampening[worst]
            if move[0] >= LINEAR and one * factor > today:
                weight = -weight
        for i in range(leg - first):
            share[first + i] = (changed[case, i] * factor - value[first + i]) * weight
