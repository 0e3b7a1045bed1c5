"""EDGE spread: the bid-ask spread from open, high, low and close, all at once."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import MarketFeature, feature
from features.market import rolling
from features.market.inputs import BODY, CLOSE, DOWN, GAP, HIGH, LOW, OPEN, RESET, UP
from market.core.clock import Interval

_POSITION, _FILLED, _VALID = range(3)
_HEADER = 3
_SUMS = 32
_PAIR = 6  # numbers kept of each pair: r1, r4, r5, tau, po, pc
_LAST = 4  # of the bar before: high, low and close, and close over its middle


@feature
def edge_spread(hours: float) -> MarketFeature:
    """Efficient estimate of the relative spread from the pairs of bars of the last `hours`.

    Formula: with logs of prices, m the middle of high and low and ' the bar before:
    ``r1 = m - o, r2 = o - m', r3 = m - c', r4 = c' - m', r5 = o - c'``, tau = 1 where the bar
    moves or leaves c', p_o and p_c the mean number of ends of the range that o and c' are not at
    (where tau is 1), ``d = r - tau mean(r) / mean(tau)``;
    ``x1 = -4 (d1 r2 / p_o + d3 r4 / p_c)``, ``x2 = -4 (d1 r5 / p_o + d5 r4 / p_c)``;
    ``S^2 = (var(x2) mean(x1) + var(x1) mean(x2)) / (var(x1) + var(x2))``, and ``S = sqrt|S^2|``.
    Unit: fraction of the price. A pair needs two bars without a gap; NaN until the window is full,
    while under half of it is there and where the prices do not identify it (p_o or p_c is 0, or
    tau is 1 under twice).

    References
    ----------
    Ardia, Guidotti and Kroencke, Journal of Financial Economics 161 (2024) 103916.
    """

    def state_size(interval: Interval) -> int:
        return _HEADER + _SUMS + _LAST + _PAIR * rolling.bars_in(hours, interval)

    return MarketFeature(
        name=f"edge_spread_{hours:g}h",
        family="liquidity",
        unit="fraction of price",
        formula="sqrt|(v2 e1 + v1 e2) / (v1 + v2)|, moments e, v of two products of returns",
        reference="Ardia, Guidotti and Kroencke (2024)",
        kernel=kernel,
        params=rolling.window_params(hours),
        state_size=state_size,
        settings=(hours,),
        book_form="mean",
    )


@njit(cache=True, error_model="numpy")
def _differ(price, high, low):  # type: ignore[no-untyped-def]
    """How many ends of the range a price is not at."""
    return (1.0 if price != high else 0.0) + (1.0 if price != low else 0.0)


@njit(cache=True, error_model="numpy")
def _add(sums, pair, sign):  # type: ignore[no-untyped-def]
    """Add one pair to the sums of products, or take it out."""
    r1, r4, r5, tau = pair[0], pair[1], pair[2], pair[3]
    r2, r3 = r5 + r4, r5 + r1
    r12, r34, r15, r45 = r1 * r2, r3 * r4, r1 * r5, r4 * r5
    t2, t4, t5 = tau * r2, tau * r4, tau * r5
    sums[0] += sign * r12
    sums[1] += sign * r34
    sums[2] += sign * r15
    sums[3] += sign * r45
    sums[4] += sign * tau
    sums[5] += sign * r1
    sums[6] += sign * r3
    sums[7] += sign * r5
    sums[8] += sign * t2
    sums[9] += sign * t4
    sums[10] += sign * t5
    sums[11] += sign * pair[4]
    sums[12] += sign * pair[5]
    sums[13] += sign * r12 * r12
    sums[14] += sign * r34 * r34
    sums[15] += sign * r15 * r15
    sums[16] += sign * r45 * r45
    sums[17] += sign * r12 * r34
    sums[18] += sign * r15 * r45
    sums[19] += sign * t2 * r2
    sums[20] += sign * t4 * r4
    sums[21] += sign * t5 * r5
    sums[22] += sign * t2 * r12
    sums[23] += sign * t4 * r34
    sums[24] += sign * t5 * r15
    sums[25] += sign * t4 * r45
    sums[26] += sign * t4 * r12
    sums[27] += sign * t2 * r34
    sums[28] += sign * t2 * r4
    sums[29] += sign * tau * r1 * r45
    sums[30] += sign * t5 * r45
    sums[31] += sign * t4 * r5


@njit(cache=True, error_model="numpy")
def _spread(sums, count):  # type: ignore[no-untyped-def]
    """The estimate from the sums over `count` pairs."""
    tau, po, pc = sums[4] / count, sums[11] / count, sums[12] / count
    if sums[4] < 2.0 or po == 0.0 or pc == 0.0:
        return np.nan
    a, b = -4.0 / po, -4.0 / pc
    m1, m3, m5 = sums[5] / count / tau, sums[6] / count / tau, sums[7] / count / tau
    e1 = a * (sums[0] - m1 * sums[8]) + b * (sums[1] - m3 * sums[9])
    e2 = a * (sums[2] - m1 * sums[10]) + b * (sums[3] - m5 * sums[9])
    v1 = a * a * (sums[13] - 2.0 * m1 * sums[22] + m1 * m1 * sums[19])
    v1 += b * b * (sums[14] - 2.0 * m3 * sums[23] + m3 * m3 * sums[20])
    v1 += 2.0 * a * b * (sums[17] - m1 * sums[27] - m3 * sums[26] + m1 * m3 * sums[28])
    v2 = a * a * (sums[15] - 2.0 * m1 * sums[24] + m1 * m1 * sums[21])
    v2 += b * b * (sums[16] - 2.0 * m5 * sums[25] + m5 * m5 * sums[20])
    v2 += 2.0 * a * b * (sums[18] - m1 * sums[30] - m5 * sums[29] + m1 * m5 * sums[31])
    e1, e2 = e1 / count, e2 / count
    v1, v2 = v1 / count - e1 * e1, v2 / count - e2 * e2
    total = v1 + v2
    square = (v2 * e1 + v1 * e2) / total if total > 0.0 else 0.5 * (e1 + e2)
    return np.sqrt(abs(square))


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, window):  # type: ignore[no-untyped-def]
    """State: position, filled and valid slots; sums of products; the bar before; ring of pairs.

    The sums are taken anew whenever the ring wraps, as in `features.market.rolling`.
    """
    first = _HEADER + _SUMS + _LAST
    for s in range(inputs.shape[1]):
        head, sums = state[s, :_HEADER], state[s, _HEADER : _HEADER + _SUMS]
        last = state[s, _HEADER + _SUMS : first]
        ring = state[s, first:].reshape(window, _PAIR)
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                state[s, :] = 0.0
                last[:] = np.nan
            high, low, close = inputs[HIGH, s, t], inputs[LOW, s, t], inputs[CLOSE, s, t]
            middle = 0.5 * (inputs[UP, s, t] + inputs[DOWN, s, t])
            pair = ring[int(head[_POSITION])]
            if head[_FILLED] < window:
                head[_FILLED] += 1.0
            elif not np.isnan(pair[0]):
                _add(sums, pair, -1.0)
                head[_VALID] -= 1.0
            if np.isnan(middle + last[3]):
                pair[0] = np.nan
            else:
                moves = 1.0 if high != low or low != last[2] else 0.0
                opening = inputs[OPEN, s, t]
                pair[0], pair[1], pair[2] = middle, last[3], inputs[GAP, s, t]
                pair[3] = moves
                pair[4] = moves * _differ(opening, high, low)
                pair[5] = moves * _differ(last[2], last[0], last[1])
                _add(sums, pair, 1.0)
                head[_VALID] += 1.0
            head[_POSITION] += 1.0
            if head[_POSITION] == window:
                head[_POSITION] = 0.0
                sums[:] = 0.0
                for k in range(window):
                    if not np.isnan(ring[k, 0]):
                        _add(sums, ring[k], 1.0)
            last[0], last[1], last[2] = high, low, close
            last[3] = inputs[BODY, s, t] - middle
            if head[_FILLED] < window or 2.0 * head[_VALID] < window:
                out[s, t] = np.nan
            else:
                out[s, t] = _spread(sums, head[_VALID])
