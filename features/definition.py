"""What a feature is: a name, a kernel and what a reader must know about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from market.clock import Interval

Family = Literal["volatility", "liquidity", "correlation", "momentum", "account"]
Kernel = Callable[..., None]


@dataclass(frozen=True, slots=True)
class MarketFeature:
    """One number per symbol, kept up to date by a kernel.

    The kernel is called as ``kernel(inputs, state, out, *params)``. It moves `state`, float64 of
    shape (S, `state_size`), through the T rows of `inputs`, float64 of shape (T, S, 7) with the
    columns of `features.inputs`, and writes `out`, shape (T, S). History is one call with many
    rows, a live bar one call with a single row: there is no second implementation.

    Attributes
    ----------
    name, family, unit, formula, reference:
        For the reader; `name` is also the column.
    kernel:
        Compiled function as above.
    params, state_size:
        From the bar interval: the extra arguments of the kernel, and the width of the state.
    settings:
        Windows and half-lives in hours; part of the schema hash.
    is_volatility:
        True if it estimates the standard deviation of the hourly log return.
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


@dataclass(frozen=True, slots=True)
class CrossFeature:
    """One number per symbol from the correlation matrix of all symbols.

    The kernel is called as ``kernel(correlation, volatility, out)`` with float64 arrays of shapes
    (T, S, S), (T, S) and (T, S). It has no state of its own.
    """

    name: str
    family: Family
    unit: str
    formula: str
    reference: str
    kernel: Kernel


@dataclass(frozen=True, slots=True)
class AccountFeature:
    """One number per account, from its moments (`features.account.moments`).

    The kernel is called as ``kernel(moments, out, *params)`` with float64 arrays of shapes (N, M)
    and (N,).

    Attributes
    ----------
    monotone:
        Direction in which the probability of a call may move with the feature: 1, -1, or 0 for
        either.
    uses_equity:
        True if the feature changes when the account deposits; such a feature must be monotone.
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
