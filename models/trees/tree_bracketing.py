"""First guess of a level, from prior and trees, without the ONNX graph.

The graph scores the whole model on whole rows. A decision must rest on it, but a search needs less:
once the bracket of an account is narrow, nearly every split sends both its ends the same way. Here
each tree is entered at the node where the two ends part, and skipped once they share a leaf; and of
a row only the columns that a split looks at are computed. One compiled call searches all accounts
and horizons. `margin.add_on.solver` checks the guess against the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from features.account.column_plan import Columns, column_plan, column_value
from margin.add_on.solver import RELATIVE_PRECISION
from market.core.arrays import Bools, Floats, Ints
from market.core.lean_kernel import lean_kernel
from models.bundle.schema import ModelSchema
from models.prior.pieces import PriorPieces, distance_share
from models.prior.score import Priors, checked_priors
from models.trees.node_table import LEFT, NodeTable, descend_together, feature_of, next_node
from models.trees.tree_table import TreeTable

_PRECISION = 0.25 * RELATIVE_PRECISION
_SAFE_SIDE = 1e-11
"""Log odds by which a guess is on the safe side: more than graph and trees differ by, and far less
than they change over `_PRECISION` of a level."""
_ROUNDS = 128
"""Far more than any bracket needs; a search that ends here gives a rough guess, no wrong level."""
_LOW, _HIGH, _TRIAL = range(3)


class LevelGuesser:
    """First guesses of the levels of one model.

    Parameters
    ----------
    schema, trees, calibration, priors:
        As in its bundle.
    """

    def __init__(
        self,
        schema: ModelSchema,
        trees: Mapping[int, TreeTable],
        calibration: Mapping[int, tuple[float, float]],
        priors: Priors | None = None,
    ) -> None:
        self._horizons = schema.horizons
        self._calibration = calibration
        columns = column_plan(schema.features).of_equity
        slot = np.full(len(schema.features), -1, dtype=np.int64)
        slot[columns.place] = np.arange(len(columns.place))
        table = NodeTable.of([trees[hours] for hours in schema.horizons])
        splines = checked_priors(schema, priors)
        prior = PriorPieces.of(
            schema.prior_inputs(), [splines[hours] for hours in schema.horizons if splines]
        )
        self._model = _Model(table, prior, columns, slot)
        self._last_targets: tuple[tuple[tuple[int, float], ...], _Targets | None] = (), None

    def levels(
        self, aggregates: Floats, columns: Floats, upper: Floats, p_star: Mapping[int, float]
    ) -> Floats:
        """Smallest level in [0, upper] at which the trees tolerate each account at each horizon.

        Equal to the level by the graph but for rounding. An account gets the same bits alone and
        in a book.

        Parameters
        ----------
        aggregates, columns:
            Of N accounts, shapes (N, M) and (N, F), at any headroom; see `features.account`.
        upper:
            Shape (N,).
        p_star:
            Highest tolerated probability by horizon in hours, K horizons of the schema.

        Returns
        -------
        Shape (N, K), horizons rising; `upper` where no level suffices, NaN where the trees'
        score is NaN.

        References
        ----------
        Chandrupatla (1997), "A new hybrid quadratic/bisection algorithm for finding the zero of
        a nonlinear function without using derivatives"; Futamura (1971), "Partial evaluation of
        computation process".
        """
        targets = self._targets(tuple(sorted(p_star.items())))
        level = np.empty((len(upper), len(p_star)))
        _guess_levels(aggregates, columns, upper, targets, self._model, level)
        return level

    def _targets(self, p_star: tuple[tuple[int, float], ...]) -> _Targets:
        """The targets of a rule set; those of the last call are kept."""
        key, targets = self._last_targets
        if key != p_star or targets is None:
            ensembles = [self._horizons.index(hours) for hours, _ in p_star]
            targets = _Targets.of(ensembles, self._limits([limit for _, limit in p_star]))
            self._last_targets = p_star, targets
        return targets

    def _limits(self, tolerated: Sequence[float]) -> Floats:
        """Highest raw score of each ensemble at which each probability is met, shape (K, H)."""
        slope, intercept = np.array([self._calibration[h] for h in self._horizons]).T
        p = np.array(tolerated)[:, None]
        with np.errstate(divide="ignore"):  # 0 and 1 are infinite log odds
            odds = np.log(p) - np.log1p(-p)
        limits: Floats = (odds - intercept) / slope - _SAFE_SIDE
        return limits


class _Targets(NamedTuple):
    """K targets of a model of H ensembles.

    p never falls from one horizon to the next: the ensembles before a target's own must meet its
    limit as well.

    Attributes
    ----------
    ensemble:
        Of each target, shape (K,).
    limit:
        Highest raw score of each ensemble for each target, shape (K, H).
    stricter:
        The target of an ensemble whose limit is no looser than that for a later target, shape
        (K, H): where that target needs no more, the ensemble needs no search for the later one.
        −1 where there is none.
    """

    ensemble: Ints
    limit: Floats
    stricter: Ints

    @classmethod
    def of(cls, ensembles: Sequence[int], limit: Floats) -> _Targets:
        stricter = np.full(limit.shape, -1, dtype=np.int64)
        for own, ensemble in enumerate(ensembles):
            no_looser = limit[own, ensemble] <= limit[:, ensemble]
            stricter[no_looser, ensemble] = own
        return cls(np.array(ensembles, dtype=np.int64), limit, stricter)


class _Model(NamedTuple):
    """The trees of H ensembles, the priors that they correct, the columns that move with the
    headroom, and the slot of each of the F columns among them, (F,), else −1."""

    table: NodeTable
    prior: PriorPieces
    columns: Columns
    slot: Ints


class _Rows(NamedTuple):
    """Three rows of one account: at the ends of its bracket and at a trial between them.

    Attributes
    ----------
    aggregates, features:
        Of the account at any headroom, shapes (M,) and (F,).
    level:
        Headroom of each row, shape (3,).
    value, known:
        Columns that move with the headroom, and whether each has been computed, shape (3, C).
    """

    aggregates: Floats
    features: Floats
    level: Floats
    value: Floats
    known: Bools


class _Start(NamedTuple):
    """Where the searches of one account begin, made once for each ensemble.

    Attributes
    ----------
    rows:
        Columns of the account at headroom 0 and at the highest level, shape (2, F).
    score:
        Raw score of each ensemble at both, shape (H, 2).
    settled:
        Sum over the trees in which both share a leaf, shape (H,).
    open_count, node:
        How many the other trees are, −1 of an ensemble that has not been begun, shape (H,), and
        the nodes where the two part in them, shape (H, widest).
    """

    rows: Floats
    score: Floats
    settled: Floats
    open_count: Ints
    node: Ints


class _WorkSpace(NamedTuple):
    """Room for an index of every tree of an ensemble, twice, shape (widest,) each."""

    node: Ints
    active: Ints


@njit(cache=True, error_model="numpy", nogil=True)
def _guess_levels(aggregates, features, upper, targets, model, out):  # type: ignore[no-untyped-def]
    ensembles, widest = len(model.prior.column), model.table.widest
    moving, width = len(model.columns.place), features.shape[1]
    level, value = np.empty(3), np.empty((3, moving))
    known = np.empty((3, moving), dtype=np.bool_)
    start = _Start(
        np.empty((2, width)),
        np.empty((ensembles, 2)),
        np.empty(ensembles),
        np.empty(ensembles, dtype=np.int64),
        np.empty((ensembles, widest), dtype=np.int64),
    )
    space = _WorkSpace(np.empty(widest, dtype=np.int64), np.empty(widest, dtype=np.int64))
    alone = np.empty(len(targets.ensemble))
    for n in range(len(upper)):
        rows = _Rows(aggregates[n], features[n], level, value, known)
        start.open_count[:] = -1
        for f in range(width):
            start.rows[0, f] = start.rows[1, f] = features[n, f]
        for c in range(moving):
            place = model.columns.place[c]
            start.rows[0, place] = column_value(model.columns, c, aggregates[n], 0.0)
            start.rows[1, place] = column_value(model.columns, c, aggregates[n], upper[n])
        for t in range(len(targets.ensemble)):
            e = targets.ensemble[t]
            alone[t] = _root(model, e, targets.limit[t, e], upper[n], rows, start, space)
        for t in range(len(targets.ensemble)):
            highest = alone[t]
            for e in range(targets.ensemble[t]):
                own = targets.stricter[t, e]
                if own >= 0 and not alone[own] > alone[t]:
                    continue
                other = _root(model, e, targets.limit[t, e], upper[n], rows, start, space)
                if other > highest or np.isnan(other):
                    highest = other
            out[n, t] = highest


@lean_kernel
def _begin(model, e, start, space):  # type: ignore[no-untyped-def]
    """Score an ensemble at both ends and find the trees that part them."""
    number, links = model.table.number, model.table.links
    first, last = model.table.first[e], model.table.first[e + 1]
    at, active = space.node[: last - first], space.active
    for t in range(last - first):
        at[t] = model.table.root[first + t]
    descend_together(number, links, start.rows[0], start.rows[1], at, active)
    settled, count = 0.0, 0
    for t in range(last - first):
        if links[at[t], LEFT] == at[t]:
            settled += number[at[t], 0]
        else:
            start.node[e, count] = at[t]
            count += 1
    start.settled[e], start.open_count[e] = settled, count
    for end in range(2):
        at = space.node[:count]
        for t in range(count):
            at[t] = start.node[e, t]
        descend_together(number, links, start.rows[end], start.rows[end], at, active)
        total = 0.0
        for t in range(count):
            total += number[at[t], 0]
        score = total + settled
        for d in range(model.prior.column.shape[1]):
            x = start.rows[end, model.prior.column[e, d]]
            score += distance_share(model.prior, e, d, x)
        start.score[e, end] = score


@lean_kernel
def _root(model, ensemble, limit, upper, rows, start, space):  # type: ignore[no-untyped-def]
    """Smallest level in [0, upper] at which the score of an ensemble is within its limit.

    `upper` where there is none, NaN where the score is NaN. By Chandrupatla's method.
    """
    if start.open_count[ensemble] < 0:
        _begin(model, ensemble, start, space)
    f1, f2 = start.score[ensemble, 1] - limit, start.score[ensemble, 0] - limit
    if np.isnan(f1) or np.isnan(f2):
        return np.nan
    if f2 <= 0.0:
        return 0.0
    guess = upper
    if not f1 <= 0.0:
        return guess
    low, high, trial = _LOW, _HIGH, _TRIAL
    rows.known[:] = False
    rows.level[low], rows.level[high] = 0.0, upper
    count, settled = start.open_count[ensemble], start.settled[ensemble]
    for t in range(count):
        space.node[t] = start.node[ensemble, t]
    # Level and excess of the newest point, of the other end of the bracket, of the one before.
    x1, x2, x3, f3 = upper, 0.0, upper, f1
    part = 0.5
    for _ in range(_ROUNDS):
        x = x1 + part * (x2 - x1)
        rows.level[trial] = x
        rows.known[trial] = False
        count, settled, score = _score(
            model, ensemble, rows, space, count, settled, (low, high, trial)
        )
        f = score - limit
        if np.isnan(f):
            return np.nan
        if (f > 0.0) == (f1 > 0.0):
            x3, f3 = x1, f1
        else:
            x3, f3, x2, f2 = x2, f2, x1, f1
        x1, f1 = x, f
        if f > 0.0:
            low, trial = trial, low
        else:
            high, trial = trial, high
            guess = x
        least = 0.5 * _PRECISION * upper / abs(x2 - x1)
        if not least < 0.5:
            break
        xi, phi = (x1 - x2) / (x3 - x2), (f1 - f2) / (f3 - f2)
        share = 0.5
        if phi * phi < xi and (1.0 - phi) * (1.0 - phi) < 1.0 - xi:
            share = f1 / (f2 - f1) * f3 / (f2 - f3)
            share += (x3 - x1) / (x2 - x1) * f1 / (f3 - f1) * f2 / (f3 - f2)
        part = min(max(share, least), 1.0 - least)
    return guess


@lean_kernel
def _score(model, ensemble, rows, space, count, settled, places):  # type: ignore[no-untyped-def]
    """Raw score at a trial between the ends of a bracket, at the rows of these `places`.

    The first `count` nodes in the space are those that every row of the bracket passes in the trees
    where its ends may part; `settled` is the sum over all other trees. Trees that no longer part
    the ends are settled: every feature that moves with the level is monotone in it, so where both
    ends of a bracket go the same way all its rows go. Returns the new count and sum, and the score.
    """
    low, high, trial = places
    number, links = model.table.number, model.table.links
    slot, node = model.slot, space.node
    features, value, known = rows.features, rows.value, rows.known
    total, still_open = 0.0, 0
    for t in range(count):
        at = node[t]
        parted = False
        while links[at, LEFT] != at:
            f = feature_of(links, at)
            c = slot[f]
            if c < 0:
                at = next_node(number, links, at, features[f])
                continue
            if not known[low, c]:
                _compute(model.columns, rows, low, c)
            if not known[high, c]:
                _compute(model.columns, rows, high, c)
            following = next_node(number, links, at, value[low, c])
            if following != next_node(number, links, at, value[high, c]):
                parted = True
                break
            at = following
        if not parted:
            settled += number[at, 0]
            continue
        node[still_open] = at
        still_open += 1
        while links[at, LEFT] != at:
            f = feature_of(links, at)
            c = slot[f]
            if c < 0:
                at = next_node(number, links, at, features[f])
            else:
                if not known[trial, c]:
                    _compute(model.columns, rows, trial, c)
                at = next_node(number, links, at, value[trial, c])
        total += number[at, 0]
    score = total + settled
    for d in range(model.prior.column.shape[1]):
        f = model.prior.column[ensemble, d]
        c = slot[f]
        if c < 0:
            x = features[f]
        else:
            if not known[trial, c]:
                _compute(model.columns, rows, trial, c)
            x = value[trial, c]
        score += distance_share(model.prior, ensemble, d, x)
    return still_open, settled, score


@lean_kernel
def _compute(columns, rows, row, c):  # type: ignore[no-untyped-def]
    """Compute a column that moves with the headroom, of one row."""
    rows.value[row, c] = column_value(columns, c, rows.aggregates, rows.level[row])
    rows.known[row, c] = True
