"""What a feature is: a name, a kernel and what a reader must know about it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Literal, NamedTuple, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

from market.core.clock import Interval

Floats = npt.NDArray[np.float64]
Family = Literal["volatility", "liquidity", "correlation", "momentum", "account"]
BookForm = Literal["volatility", "mean", "forecast"]
Kernel = Callable[..., None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """What every feature states.

    Attributes
    ----------
    name:
        The column.
    family, unit, formula, reference:
        For the reader.
    kernel:
        Compiled function; each kind of feature says how it is called.
    inputs:
        Columns, roles and sources that it reads beside bars, see `features.identity`.
    constants:
        Other numbers in its code that decide its values.
    revision:
        To be raised when its values change though nothing else here does.
    doc:
        Docstring of its factory, set by the decorator `feature`.
    """

    name: str
    family: Family
    unit: str
    formula: str
    reference: str
    kernel: Kernel
    inputs: tuple[str, ...] = ()
    constants: tuple[float, ...] = ()
    revision: int = 1
    doc: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketFeature(Feature):
    """One number per symbol, kept up to date by a kernel.

    The kernel is called as ``kernel(inputs, state, out, *params)``. It moves `state`, float64 of
    shape (S, `state_size`), through the T bars of `inputs`, float64 of shape (20, S, T) with the
    columns of `features.market.inputs`, and writes `out`, shape (S, T). History is one call with
    many bars, a live bar one call with a single one: there is no second implementation.

    Attributes
    ----------
    params, state_size:
        From the bar interval: the extra arguments of the kernel, and the width of the state.
    settings:
        Windows and half-lives in hours, the warm-up first; part of the column's identity.
    book_form:
        How a model sees it: ``volatility`` (a standard deviation of the hourly log return) gives
        the distance and the volatility of a book under it, ``mean`` its average over a book,
        ``forecast`` (a standard deviation of the hourly log return) only the volatility of a book
        under it, for features that are made of it; None leaves it to other features.
    needs_exogenous:
        True if it comes from the series beside bars, which a market may lack: then it is NaN and
        the symbol can be scored all the same.
    survives_gaps:
        True if it is a long memory that a gap over `MAX_GAP_HOURS` does not erase; every other
        feature starts anew after one.
    """

    params: Callable[[Interval], tuple[float, ...]]
    state_size: Callable[[Interval], int]
    settings: tuple[float, ...]
    book_form: BookForm | None = None
    needs_exogenous: bool = False
    survives_gaps: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossFeature(Feature):
    """One number per symbol from the correlations of all symbols.

    The kernel is called as ``kernel(market, state, out, *params)`` with a `CrossInputs`, float64
    arrays of shapes (S, `state_width`) and (T, S). `state` is what it carries from bar to bar.

    Attributes
    ----------
    params:
        Extra arguments of the kernel; part of the column's identity.
    state_width:
        Numbers kept for each symbol.
    book_form, needs_exogenous:
        As for `MarketFeature`.
    """

    params: tuple[int, ...] = ()
    state_width: int = 0
    book_form: BookForm | None = None
    needs_exogenous: bool = False


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

    slow: Floats
    fast: Floats
    volatility: Floats
    implied_volatility: Floats
    skew: Floats
    term_slope: Floats
    curvature: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFeature(Feature):
    """One number per symbol from the kernel of a `FeatureGroup`; NaN while the symbol is absent.

    Attributes
    ----------
    settings:
        Windows and half-lives in hours; part of the column's identity.
    book_form:
        As for `MarketFeature`.
    """

    settings: tuple[float, ...]
    book_form: BookForm | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureGroup:
    """Columns that one kernel computes together, because they share a state.

    The kernel is called as ``kernel(inputs, state, out, *params)`` with `inputs` as for a
    `MarketFeature`, a tuple of arrays `state`, which it moves, and `out` of shape (F, S, T) for the
    F columns in their order. A live bar is a call with one bar.

    Attributes
    ----------
    name:
        Names its state.
    columns:
        What it computes.
    kernel:
        Compiled function; the kernel of every column.
    state_shapes:
        From the number of symbols the shape of each array of the state by name; all begin as zeros.
    params:
        Extra arguments of the kernel.
    """

    name: str
    columns: tuple[GroupFeature, ...]
    kernel: Kernel
    state_shapes: Callable[[int], dict[str, tuple[int, ...]]]
    params: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountFeature(Feature):
    """One number per account, from the aggregates of its book (`features.account.aggregates`).

    The kernel is called as ``kernel(aggregates, out, *params)`` with float64 arrays of shapes
    (N, M) and (N,).

    Attributes
    ----------
    params:
        Extra arguments of the kernel; no part of the identity, for they may be columns of the
        aggregates, which shift when a feature is added.
    monotone:
        Direction in which the probability of a call may move with the feature: 1, -1, or 0 for
        either.
    uses_equity:
        True if the feature changes when the account deposits; such a feature must be monotone.
    options_only:
        True if it is 0 in every book without options.
    family:
        That of the market features it is made from, else the account.
    """

    family: Family = "account"
    params: tuple[Any, ...] = ()
    monotone: int = 0
    uses_equity: bool = False
    options_only: bool = False


_Arguments = ParamSpec("_Arguments")
_Kind = TypeVar("_Kind", MarketFeature, CrossFeature, GroupFeature, AccountFeature)


def feature(factory: Callable[_Arguments, _Kind]) -> Callable[_Arguments, _Kind]:
    """Decorate a factory so that its features carry its docstring."""

    @wraps(factory)
    def build(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Kind:
        return replace(factory(*args, **kwargs), doc=inspect.getdoc(factory) or "")

    return build
