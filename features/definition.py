"""What a feature is: a name, a kernel and what a reader must know about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from market.core.clock import Interval

Family = Literal["volatility", "liquidity", "correlation", "momentum", "account"]
Kernel = Callable[..., None]


@dataclass(frozen=True, slots=True)
class MarketFeature:
    """One number per symbol, kept up to date by a kernel.

    The kernel is called as ``kernel(inputs, state, out, *params)``. It moves `state`, float64 of
    shape (S, `state_size`), through the T bars of `inputs`, float64 of shape (20, S, T) with the
    columns of `features.market.inputs`, and writes `out`, shape (S, T). History is one call with
    many bars, a live bar one call with a single one: there is no second implementation.

    Attributes
    ----------
    name, family, unit, formula, reference:
        For the reader; `name` is also the column.
    kernel:
        Compiled function as above.
    params, state_size:
        From the bar interval: the extra arguments of the kernel, and the width of the state.
    settings:
        Windows and half-lives in hours; part of the column's identity.
    is_volatility:
        True if it estimates the standard deviation of the hourly log return.
    inputs, constants, revision:
        Part of the column's identity, see `features.identity`: the columns and sources that it is
        computed from beside bars, other numbers in its code that decide its values, and a number
        to raise when its values change though nothing else here does.
    needs_context:
        True if it comes from `BarPanel.exogenous`, which a market may lack: then it is NaN and the
        symbol can be scored all the same.
    survives_gaps:
        True if it is a long memory that a gap over `MAX_GAP_HOURS` does not erase; every other
        feature starts anew after one.
    """

    name: str
    family: Family
    unit: str
    formula: str
    reference: str
    kernel: Kernel
    params: Callable[[Interval], tuple[float, ...]]
    state_size: Callable[[Interval], int]
    settings: tuple[float, ...]
    is_volatility: bool = False
    needs_context: bool = False
    survives_gaps: bool = False
    inputs: tuple[str, ...] = ()
    constants: tuple[float, ...] = ()
    revision: int = 1


@dataclass(frozen=True, slots=True)
class CrossFeature:
    """One number per symbol from the correlations of all symbols.

    The kernel is called as ``kernel(market, state, out, *params)`` with a `CrossInputs`, float64
    arrays of shapes (S, `state_width`) and (T, S). `state` is what it carries from bar to bar.

    Attributes
    ----------
    params:
        Extra arguments of the kernel.
    state_width:
        Numbers kept for each symbol.
    needs_context, inputs, constants, revision:
        As for `MarketFeature`.
    """

    name: str
    family: Family
    unit: str
    formula: str
    reference: str
    kernel: Kernel
    params: tuple[int, ...] = ()
    state_width: int = 0
    needs_context: bool = False
    inputs: tuple[str, ...] = ()
    constants: tuple[float, ...] = ()
    revision: int = 1


class CrossInputs(NamedTuple):
    """What a cross kernel reads, for T bars of S symbols.

    Attributes
    ----------
    slow, fast:
        Correlations at two speeds, shape (T, S, S); NaN in warm-up and for absent symbols.
    volatility:
        Standard deviation of the hourly log return, shape (T, S).
    implied_volatility:
        Annualised index of each symbol that has one, shape (S, T).
    skew, term_slope, curvature:
        Of the options' surface of each symbol that has one, annual vol, shape (S, T).
    """

    slow: npt.NDArray[np.float64]
    fast: npt.NDArray[np.float64]
    volatility: npt.NDArray[np.float64]
    implied_volatility: npt.NDArray[np.float64]
    skew: npt.NDArray[np.float64]
    term_slope: npt.NDArray[np.float64]
    curvature: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AccountFeature:
    """One number per account, from its moments (`features.account.aggregates`).

    The kernel is called as ``kernel(moments, out, *params)`` with float64 arrays of shapes (N, M)
    and (N,).

    Attributes
    ----------
    monotone:
        Direction in which the probability of a call may move with the feature: 1, -1, or 0 for
        either.
    uses_equity:
        True if the feature changes when the account deposits; such a feature must be monotone.
    family:
        What it speaks of: that of the market features it is made from, else the account.
    inputs, constants, revision:
        As for `MarketFeature`. `params` are no part of the identity: they may be places in the
        moments, which move when a feature is added.
    """

    name: str
    unit: str
    formula: str
    reference: str
    kernel: Kernel
    params: tuple[Any, ...] = ()
    monotone: int = 0
    uses_equity: bool = False
    family: Family = "account"
    inputs: tuple[str, ...] = ()
    constants: tuple[float, ...] = ()
    revision: int = 1
