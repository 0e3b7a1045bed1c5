"""Where the search for a level begins: the level by the trees themselves, without the graph.

The graph answers for the whole model and for whole rows. That is what a decision must rest on, and
far more than a search needs: once the bracket of an account is narrow, nearly every split sends
both its ends the same way. Here each tree is entered where the two ends part, and is left alone
once they share a leaf. The result is a guess; `margin.add_on.solver` asks the graph about it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from numba import njit

from features.account.frame import set_headroom
from margin.add_on.solver import RELATIVE_PRECISION
from models.bundle.schema import ModelSchema
from models.trees.tree_table import TreeTable

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Nodes = npt.NDArray[np.int32]

_PRECISION = 0.25 * RELATIVE_PRECISION
_SAFE_SIDE = 1e-11
"""Log odds by which a guess suffices: more than graph and trees differ by, and far less than a
level changes over `_PRECISION`."""
_ROUNDS = 128
"""Far more than any bracket needs; a search that ends here has a rough guess, no wrong level."""


class LevelGuesser:
    """Guesses the levels of one model.

    Parameters
    ----------
    schema, trees, calibration:
        As in its bundle.
    """

    def __init__(
        self,
        schema: ModelSchema,
        trees: Mapping[int, TreeTable],
        calibration: Mapping[int, tuple[float, float]],
    ) -> None:
        self._schema = schema
        self._calibration = calibration
        self._forest = _Forest.of([trees[hours] for hours in schema.horizons])
        self._prior = np.array(
            schema.prior_columns() or (-1,) * len(schema.horizons), dtype=np.int64
        )

    def levels(
        self, aggregates: Floats, columns: Floats, upper: Floats, p_star: Mapping[int, float]
    ) -> Floats:
        """Smallest level in [0, upper] at which the trees tolerate each account at each horizon.

        All but what the last bits of the graph would say. Each account's guess is its own: alone
        or in a book, the same bits.

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
        targets = sorted(p_star)
        own = [self._schema.horizons.index(hours) for hours in targets]
        limits = self._limits([p_star[hours] for hours in targets])
        n, k = len(upper), len(targets)

        def search(account: Ints, target: Ints, ensemble: Ints) -> Floats:
            limit = limits[target, ensemble]
            return self._run(account, ensemble, limit, upper, aggregates, columns)

        level = search(np.repeat(np.arange(n), k), np.tile(np.arange(k), n), np.tile(own, n))
        level = level.reshape(n, k)
        # p never falls from one horizon to the next: an earlier one must meet the limit as well.
        pairs = [_earlier(level, own, limits, t, e) for t in range(k) for e in range(own[t])]
        if pairs:
            account, target, ensemble = np.concatenate(pairs, axis=1)
            np.maximum.at(level, (account, target), search(account, target, ensemble))
        return level

    def _limits(self, tolerated: Sequence[float]) -> Floats:
        """Highest raw score of each ensemble at which each probability is met, shape (K, H)."""
        slope, intercept = np.array([self._calibration[h] for h in self._schema.horizons]).T
        p = np.array(tolerated)[:, None]
        with np.errstate(divide="ignore"):  # 0 and 1 are infinite log odds
            odds = np.log(p) - np.log1p(-p)
        limits: Floats = (odds - intercept) / slope - _SAFE_SIDE
        return limits

    def _run(
        self,
        account: Ints,
        ensemble: Ints,
        limit: Floats,
        upper: Floats,
        aggregates: Floats,
        columns: Floats,
    ) -> Floats:
        names, forest = self._schema.features, self._forest
        return _Search(
            account,
            ensemble,
            limit,
            upper[account],
            aggregates,
            columns,
            names,
            self._prior,
            forest,
        ).run()


def _earlier(level: Floats, own: Sequence[int], limits: Floats, target: int, other: int) -> Ints:
    """Which accounts may need more for a target because of an earlier ensemble.

    Three rows: account, target, ensemble. None do where the earlier one is targeted itself, at a
    limit no looser, and asks for no more.
    """
    doubtful = np.ones(len(level), dtype=np.bool_)
    if other in own and limits[own.index(other), other] <= limits[target, other]:
        doubtful = level[:, own.index(other)] > level[:, target]
    account = np.flatnonzero(doubtful)
    return np.stack([account, np.full_like(account, target), np.full_like(account, other)])


@dataclass(frozen=True, slots=True)
class _Forest:
    """The trees of all horizons, one after the other; nodes as in `TreeTable`.

    The roots of ensemble e are ``root[first[e]:first[e + 1]]``.
    """

    first: Ints
    root: Nodes
    feature: Nodes
    threshold: Floats
    left: Nodes
    right: Nodes
    default_left: npt.NDArray[np.bool_]
    value: Floats

    @classmethod
    def of(cls, tables: Sequence[TreeTable]) -> _Forest:
        nodes = np.cumsum([0, *(len(table.feature) for table in tables)])
        pairs = list(zip(tables, nodes.tolist(), strict=False))

        def moved(name: str) -> Nodes:
            return np.concatenate([getattr(t, name) + at for t, at in pairs]).astype(np.int32)

        return cls(
            first=np.cumsum([0, *(table.n_trees for table in tables)]),
            root=np.concatenate([t.tree_start[:-1] + at for t, at in pairs]).astype(np.int32),
            feature=np.concatenate([table.feature for table in tables]),
            threshold=np.concatenate([table.threshold for table in tables]),
            left=moved("left"),
            right=moved("right"),
            default_left=np.concatenate([table.default_left for table in tables]),
            value=np.concatenate([table.value for table in tables]),
        )

    @property
    def widest(self) -> int:
        """Trees of the largest ensemble."""
        return int(np.diff(self.first).max(initial=0))


@dataclass(slots=True)
class _Search:
    """One root an item: the level of one account at one horizon. All items take steps together.

    Attributes
    ----------
    account, ensemble, limit, upper:
        Of each item, shape (I,): row in `aggregates`, trees, highest score in log odds, and highest
        level.
    """

    account: Ints
    ensemble: Ints
    limit: Floats
    upper: Floats
    aggregates: Floats
    columns: Floats
    names: Sequence[str]
    prior: Ints
    forest: _Forest
    low_rows: Floats = field(init=False)
    high_rows: Floats = field(init=False)
    node: Nodes = field(init=False)
    count: Ints = field(init=False)
    settled: Floats = field(init=False)

    def run(self) -> Floats:
        """The guess of each item, shape (I,)."""
        n = len(self.account)
        every = np.arange(n)
        self.low_rows = self._rows(every, np.zeros(n))
        self.high_rows = self._rows(every, self.upper)
        self.node = np.empty((n, self.forest.widest), dtype=np.int32)
        self.count = np.full(n, -1, dtype=np.int64)
        self.settled = np.zeros(n)
        at_upper = self._excess(every, self.high_rows)
        at_zero = self._excess(every, self.low_rows)
        guess = np.where(at_zero <= 0.0, 0.0, self.upper)
        guess[np.isnan(at_upper) | np.isnan(at_zero)] = np.nan
        open_ = np.flatnonzero((at_zero > 0.0) & (at_upper <= 0.0))
        # Newest point, the other end of the bracket, and the point before: level and excess.
        points = np.empty((n, 6))
        points[:, 0], points[:, 1] = self.upper, at_upper
        points[:, 2], points[:, 3] = 0.0, at_zero
        points[:, 4], points[:, 5] = self.upper, at_upper
        part = np.full(n, 0.5)
        for _ in range(_ROUNDS):
            if not len(open_):
                break
            newest = points[open_, 0]
            level = newest + part[open_] * (points[open_, 2] - newest)
            rows = self._rows(open_, level)
            excess = self._excess(open_, rows)
            going = _step(
                open_,
                level,
                excess,
                rows,
                self.upper,
                points,
                part,
                guess,
                self.low_rows,
                self.high_rows,
            )
            open_ = open_[going]
        return guess

    def _rows(self, items: Ints, level: Floats) -> Floats:
        account = self.account[items]
        rows = self.columns[account]
        set_headroom(self.aggregates[account], rows, self.names, level)
        return rows

    def _excess(self, items: Ints, rows: Floats) -> Floats:
        """Score less limit of items at rows within their brackets."""
        out = np.empty(len(items))
        forest = self.forest
        _scores(
            items,
            rows,
            self.low_rows,
            self.high_rows,
            self.ensemble,
            self.prior,
            forest.first,
            forest.root,
            forest.feature,
            forest.threshold,
            forest.left,
            forest.right,
            forest.default_left,
            forest.value,
            self.node,
            self.count,
            self.settled,
            out,
        )
        return out - self.limit[items]


@njit(cache=True, error_model="numpy")
def _goes_left(x, threshold, default_left):  # type: ignore[no-untyped-def]
    return default_left if np.isnan(x) else x <= threshold


@njit(cache=True, error_model="numpy")
def _scores(  # type: ignore[no-untyped-def]
    items,
    rows,
    low_rows,
    high_rows,
    ensemble,
    prior,
    first,
    root,
    feature,
    threshold,
    left,
    right,
    default_left,
    value,
    node,
    count,
    settled,
    out,
):
    """Raw score of items at `rows`.

    ``node[i, :count[i]]`` are the nodes that every row of item i's bracket passes in the trees
    where its ends still part, and ``settled[i]`` is the sum over all other trees. Every feature
    that moves with the level is monotone in it, so where both ends go the same way all go.
    """
    for j in range(len(items)):
        i = items[j]
        e = ensemble[i]
        if count[i] < 0:  # not begun: at the roots
            count[i] = first[e + 1] - first[e]
            node[i, : count[i]] = root[first[e] : first[e + 1]]
        low, high, row = low_rows[i], high_rows[i], rows[j]
        total, kept = 0.0, 0
        for t in range(count[i]):
            at = node[i, t]
            while feature[at] >= 0:
                f, cut, default = feature[at], threshold[at], default_left[at]
                goes_left = _goes_left(low[f], cut, default)
                if goes_left != _goes_left(high[f], cut, default):
                    break
                at = left[at] if goes_left else right[at]
            if feature[at] < 0:
                settled[i] += value[at]
                continue
            node[i, kept] = at
            kept += 1
            while feature[at] >= 0:
                goes_left = _goes_left(row[feature[at]], threshold[at], default_left[at])
                at = left[at] if goes_left else right[at]
            total += value[at]
        count[i] = kept
        out[j] = total + settled[i]
        if prior[e] >= 0:
            out[j] += row[prior[e]]


@njit(cache=True, error_model="numpy")
def _step(items, level, excess, rows, upper, points, part, guess, low_rows, high_rows):  # type: ignore[no-untyped-def]
    """One step of Chandrupatla's method for each item: take the answer in, choose the next point.

    Returns which items are still open.
    """
    going = np.ones(len(items), dtype=np.bool_)
    for j in range(len(items)):
        i = items[j]
        x, f = level[j], excess[j]
        if np.isnan(f):
            guess[i] = np.nan
            going[j] = False
            continue
        x1, f1, x2, f2 = points[i, 0], points[i, 1], points[i, 2], points[i, 3]
        if (f > 0.0) == (f1 > 0.0):
            x3, f3 = x1, f1
        else:
            x3, f3, x2, f2 = x2, f2, x1, f1
        x1, f1 = x, f
        points[i, 0], points[i, 1], points[i, 2], points[i, 3] = x1, f1, x2, f2
        points[i, 4], points[i, 5] = x3, f3
        if f > 0.0:
            low_rows[i] = rows[j]
        else:
            high_rows[i] = rows[j]
            guess[i] = x
        least = 0.5 * _PRECISION * upper[i] / abs(x2 - x1)
        if not least < 0.5:
            going[j] = False
            continue
        xi, phi = (x1 - x2) / (x3 - x2), (f1 - f2) / (f3 - f2)
        t = 0.5
        if phi * phi < xi and (1.0 - phi) * (1.0 - phi) < 1.0 - xi:
            t = f1 / (f2 - f1) * f3 / (f2 - f3)
            t += (x3 - x1) / (x2 - x1) * f1 / (f3 - f1) * f2 / (f3 - f2)
        part[i] = min(max(t, least), 1.0 - least)
    return going
