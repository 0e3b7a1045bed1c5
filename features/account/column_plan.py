"""Columns of a model in one compiled pass over the accounts, also at another headroom.

An account feature is a kernel over all accounts. A model has dozens of them, and the search for a
level needs those that move with equity at a dozen headrooms of each account: a call a column costs
far more than its numbers. So the kernels that most columns share have a code here, and the fused
pass computes a column of such a kernel by the same function of one account that the kernel loops
over. The others are called column by column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from features.account import prior
from features.account.aggregates import (
    BETA_EXPOSURE,
    GROSS,
    HEADROOM,
    MAINTENANCE,
    PRIOR_VOLATILITY,
)
from features.account.book_averages import aggregate_kernel
from features.account.bounded_shares import bounded, equity_kernel, headroom_kernel
from features.account.distance import distance_kernel, ratio, shock_kernel, shock_ratio
from features.account.exposure_shares import share, share_kernel
from features.account.forecast_distance import distance_under, log_distance_kernel
from features.account.prior import log_odds
from features.definition import AccountFeature
from features.registry import account_feature
from market.core.errors import ModelError
from market.core.lean_kernel import lean_kernel

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_AGGREGATE, _SHARE, _DISTANCE, _SHOCK, _HEADROOM, _EQUITY, _PRIOR, _LOG_DISTANCE = range(8)

_FORMS: Mapping[Callable[..., Any], int] = {
    aggregate_kernel: _AGGREGATE,
    share_kernel: _SHARE,
    distance_kernel: _DISTANCE,
    shock_kernel: _SHOCK,
    headroom_kernel: _HEADROOM,
    equity_kernel: _EQUITY,
    prior.kernel: _PRIOR,
    log_distance_kernel: _LOG_DISTANCE,
}

_OF_AGGREGATE = (_AGGREGATE, _SHARE, _DISTANCE, _LOG_DISTANCE)


class Columns(NamedTuple):
    """C columns of a fused pass.

    Attributes
    ----------
    place:
        Where each stands among the model's columns, shape (C,).
    form:
        Code of its kernel, shape (C,).
    aggregate:
        The aggregate that a kernel of one is about, shape (C,); 0 for the others.
    root_hours:
        Of priors and log distances, shape (C,); 0 for the others.
    looks, shift:
        Other parameters of priors (`features.account.prior.kernel`), shape (C,).
    multipliers, weights:
        Their mixtures, shape (C, nodes).
    second, weight:
        The second aggregate of log distances (`features.account.forecast_distance`) and its weight,
        shape (C,).
    """

    place: Ints
    form: Ints
    aggregate: Ints
    root_hours: Floats
    looks: Floats
    shift: Floats
    multipliers: Floats
    weights: Floats
    second: Ints
    weight: Floats

    @classmethod
    def of(cls, places: Sequence[int], features: Sequence[AccountFeature]) -> Columns:
        count = len(features)
        priors = [k for k, feature in enumerate(features) if feature.kernel is prior.kernel]
        nodes = max((len(features[k].params[-1]) for k in priors), default=0)
        parameters = np.zeros((3, count))
        mixtures = np.zeros((2, count, nodes))
        for k in priors:
            parameters[:, k] = features[k].params[:3]
            mixtures[:, k] = features[k].params[3:]
        second, weight = np.zeros(count, dtype=np.int64), np.zeros(count)
        for k, feature in enumerate(features):
            if feature.kernel is log_distance_kernel:
                second[k], weight[k], parameters[0, k] = feature.params[1:]
        about = [
            feature.params[0] if _FORMS[feature.kernel] in _OF_AGGREGATE else 0
            for feature in features
        ]
        return cls(
            np.array(places, dtype=np.int64),
            np.array([_FORMS[feature.kernel] for feature in features], dtype=np.int64),
            np.array(about, dtype=np.int64),
            root_hours=parameters[0],
            looks=parameters[1],
            shift=parameters[2],
            multipliers=mixtures[0],
            weights=mixtures[1],
            second=second,
            weight=weight,
        )


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """How the columns of a model are computed.

    Attributes
    ----------
    fused:
        Those with a code.
    others:
        Place and feature of each other one.
    of_equity:
        Those that move with the headroom, all with a code.
    """

    fused: Columns
    others: tuple[tuple[int, AccountFeature], ...]
    of_equity: Columns


@lru_cache(maxsize=64)
def column_plan(names: tuple[str, ...]) -> ColumnPlan:
    """The plan for the named account features, in their order.

    Raises
    ------
    ModelError
        There is no such feature, or one that depends on equity has a kernel without a code.
    """
    features = [(place, account_feature(name)) for place, name in enumerate(names)]
    fused = [(place, one) for place, one in features if one.kernel in _FORMS]
    others = [(place, one) for place, one in features if one.kernel not in _FORMS]
    for _, one in others:
        if one.uses_equity:
            raise ModelError(
                f"feature {one.name!r} depends on equity and its kernel has no code; give it one "
                "in features/account/column_plan.py, so that the search for a level can move it"
            )
    of_equity = [(place, one) for place, one in fused if one.uses_equity]

    def columns(chosen: Sequence[tuple[int, AccountFeature]]) -> Columns:
        return Columns.of([place for place, _ in chosen], [one for _, one in chosen])

    return ColumnPlan(columns(fused), tuple(others), columns(of_equity))


@lean_kernel
def column_value(columns, c, aggregates, headroom):  # type: ignore[no-untyped-def]
    """Column c of one account at a headroom; `aggregates` are its own, shape (M,)."""
    form = columns.form[c]
    if form == _DISTANCE:
        return ratio(headroom, aggregates[columns.aggregate[c]])
    if form == _LOG_DISTANCE:
        return distance_under(
            headroom,
            aggregates[columns.aggregate[c]],
            aggregates[columns.second[c]],
            columns.weight[c],
            columns.root_hours[c],
        )
    if form == _PRIOR:
        return log_odds(
            headroom,
            aggregates[PRIOR_VOLATILITY],
            columns.root_hours[c],
            columns.looks[c],
            columns.shift[c],
            columns.multipliers[c],
            columns.weights[c],
        )
    if form == _SHOCK:
        return shock_ratio(headroom, aggregates[BETA_EXPOSURE])
    if form == _HEADROOM:
        return bounded(headroom, aggregates[GROSS])
    if form == _EQUITY:
        return bounded(headroom + aggregates[MAINTENANCE], aggregates[GROSS])
    if form == _SHARE:
        return share(aggregates[columns.aggregate[c]], aggregates[GROSS])
    return aggregates[columns.aggregate[c]]


@njit(cache=True, error_model="numpy", nogil=True)
def fill_columns(columns, aggregates, out):  # type: ignore[no-untyped-def]
    """Write the columns of accounts, `aggregates` (N, M), into their places of `out`, (N, F)."""
    for n in range(len(aggregates)):
        headroom = aggregates[n, HEADROOM]
        for c in range(len(columns.place)):
            out[n, columns.place[c]] = column_value(columns, c, aggregates[n], headroom)


@njit(cache=True, error_model="numpy")
def rows_at(columns, aggregates, features, account, headroom):  # type: ignore[no-untyped-def]
    """Rows of accounts at other headrooms, shape (R, F).

    Parameters
    ----------
    columns:
        `ColumnPlan.of_equity`.
    aggregates, features:
        Of N accounts, shapes (N, M) and (N, F), at any headroom.
    account, headroom:
        Of each row, shape (R,).
    """
    out = np.empty((len(account), features.shape[1]))
    for r in range(len(account)):
        n = account[r]
        for f in range(features.shape[1]):
            out[r, f] = features[n, f]
        for c in range(len(columns.place)):
            out[r, columns.place[c]] = column_value(columns, c, aggregates[n], headroom[r])
    return out
