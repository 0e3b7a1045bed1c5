"""First guess of a level, from the trees alone, without the ONNX graph.

The graph scores the whole model on whole rows. A decision must rest on it, but a search needs less:
once the bracket of an account is narrow, nearly every split sends both its ends the same way. Here
each tree is entered at the node where the two ends part, and skipped once they share a leaf.
`margin.add_on.solver` checks the guess against the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from features.account.frame import set_headroom
from margin.add_on.solver import RELATIVE_PRECISION
from models.bundle.schema import ModelSchema
from models.trees.tree_table import TreeArrays, TreeTable, goes_left

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Nodes = npt.NDArray[np.int32]

_PRECISION = 0.25 * RELATIVE_PRECISION
_SAFE_SIDE = 1e-11
"""Log odds by which a guess is on the safe side: more than graph and trees differ by, and far less
than they change over `_PRECISION` of a level."""
_ROUNDS = 128
"""Far more than any bracket needs; a search that ends here gives a rough guess, no wrong level."""


class LevelGuesser:
    """First guesses of the levels of one model.

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
        targets = sorted(p_star)
        ensembles = [self._schema.horizons.index(hours) for hours in targets]
        limits = self._limits([p_star[hours] for hours in targets])
        n, k = len(upper), len(targets)

        def search(account: Ints, target: Ints, ensemble: Ints) -> Floats:
            items = _Items(account, ensemble, limits[target, ensemble], upper[account])
            accounts = _Accounts(aggregates, columns, self._schema.features)
            return _Search(items, accounts, self._prior, self._forest).run()

        level = search(np.repeat(np.arange(n), k), np.tile(np.arange(k), n), np.tile(ensembles, n))
        level = level.reshape(n, k)
        # p never falls from one horizon to the next: an earlier one must meet the limit as well.
        pairs = [
            _earlier(level, ensembles, limits, t, e) for t in range(k) for e in range(ensembles[t])
        ]
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


def _earlier(
    level: Floats, ensembles: Sequence[int], limits: Floats, target: int, other: int
) -> Ints:
    """Accounts that may need more for a target because of an earlier ensemble.

    Three rows: account, target, ensemble. None where the earlier one is itself a target, at a
    limit no looser, and needs no more.
    """
    open_ = np.ones(len(level), dtype=np.bool_)
    if other in ensembles and limits[ensembles.index(other), other] <= limits[target, other]:
        open_ = level[:, ensembles.index(other)] > level[:, target]
    account = np.flatnonzero(open_)
    return np.stack([account, np.full_like(account, target), np.full_like(account, other)])


class _Forest(NamedTuple):
    """The trees of all horizons, one after the other.

    ``trees.tree_start[first[e]:first[e + 1]]`` are the roots of ensemble e.
    """

    first: Ints
    trees: TreeArrays

    @classmethod
    def of(cls, tables: Sequence[TreeTable]) -> _Forest:
        nodes = np.cumsum([0, *(len(table.feature) for table in tables)])
        pairs = list(zip(tables, nodes.tolist(), strict=False))

        def shifted(name: str) -> Nodes:
            return np.concatenate([getattr(t, name) + at for t, at in pairs]).astype(np.int32)

        trees = TreeArrays(
            tree_start=np.concatenate([t.tree_start[:-1] + at for t, at in pairs]),
            feature=np.concatenate([table.feature for table in tables]),
            threshold=np.concatenate([table.threshold for table in tables]),
            left=shifted("left"),
            right=shifted("right"),
            default_left=np.concatenate([table.default_left for table in tables]),
            value=np.concatenate([table.value for table in tables]),
        )
        return cls(np.cumsum([0, *(table.n_trees for table in tables)]), trees)

    @property
    def widest(self) -> int:
        """Trees of the largest ensemble."""
        return int(np.diff(self.first).max(initial=0))


class _Items(NamedTuple):
    """What is searched: each item is the level of one account at one horizon, shape (I,) each.

    Row of the account, ensemble, highest score in log odds, and highest level.
    """

    account: Ints
    ensemble: Ints
    limit: Floats
    upper: Floats


class _Accounts(NamedTuple):
    """Aggregates (N, M) and model columns (N, F) of the accounts, and the columns' names."""

    aggregates: Floats
    columns: Floats
    names: Sequence[str]

    def at_level(self, account: Ints, level: Floats) -> Floats:
        """Model columns of some accounts at other headrooms."""
        rows = self.columns[account]
        set_headroom(self.aggregates[account], rows, self.names, level)
        return rows


class _Brackets(NamedTuple):
    """Ends of each item's bracket as model rows, and how far the trees are settled between them.

    ``node[i, :open_trees[i]]`` are the nodes that every row of item i's bracket passes in the trees
    where its ends still part, and ``settled[i]`` is the sum over all other trees.
    """

    low_rows: Floats
    high_rows: Floats
    node: Nodes
    open_trees: Ints
    settled: Floats


class _Progress(NamedTuple):
    """State of Chandrupatla's method for each item.

    `points`, shape (I, 6): level and excess of the newest point, of the other end of the bracket
    and of the point before. `part`, shape (I,): where in the bracket the next point lies. `guess`.
    """

    points: Floats
    part: Floats
    guess: Floats


@dataclass(frozen=True, slots=True)
class _Search:
    """One root an item; all items take their steps together."""

    items: _Items
    accounts: _Accounts
    prior: Ints
    forest: _Forest

    def run(self) -> Floats:
        """The guess of each item, shape (I,)."""
        upper, account = self.items.upper, self.items.account
        n = len(account)
        every = np.arange(n)
        brackets = _Brackets(
            low_rows=self.accounts.at_level(account, np.zeros(n)),
            high_rows=self.accounts.at_level(account, upper),
            node=np.empty((n, self.forest.widest), dtype=np.int32),
            open_trees=np.full(n, -1, dtype=np.int64),
            settled=np.zeros(n),
        )
        at_upper = self._excess(every, brackets.high_rows, brackets)
        at_zero = self._excess(every, brackets.low_rows, brackets)
        guess = np.where(at_zero <= 0.0, 0.0, upper)
        guess[np.isnan(at_upper) | np.isnan(at_zero)] = np.nan
        open_ = np.flatnonzero((at_zero > 0.0) & (at_upper <= 0.0))
        points = np.stack([upper, at_upper, np.zeros(n), at_zero, upper, at_upper], axis=1)
        progress = _Progress(points, np.full(n, 0.5), guess)
        for _ in range(_ROUNDS):
            if not len(open_):
                break
            newest = points[open_, 0]
            level = newest + progress.part[open_] * (points[open_, 2] - newest)
            rows = self.accounts.at_level(account[open_], level)
            trial = _Trial(level, self._excess(open_, rows, brackets), rows)
            open_ = open_[_step(open_, trial, upper, progress, brackets)]
        return guess

    def _excess(self, items: Ints, rows: Floats, brackets: _Brackets) -> Floats:
        """Score less limit of items at rows within their brackets."""
        out = np.empty(len(items))
        _scores(items, rows, self.items.ensemble, self.prior, self.forest, brackets, out)
        return out - self.items.limit[items]


class _Trial(NamedTuple):
    """New points of some items: level, excess and model row."""

    level: Floats
    excess: Floats
    rows: Floats


@njit(cache=True, error_model="numpy")
def _scores(items, rows, ensemble, prior, forest, brackets, out):  # type: ignore[no-untyped-def]
    """Raw score of items at `rows`; settles the trees that no longer part the ends of a bracket.

    Every feature that moves with the level is monotone in it, so where both ends of a bracket go
    the same way all its rows go.
    """
    trees, node, count = forest.trees, brackets.node, brackets.open_trees
    for j in range(len(items)):
        i = items[j]
        e = ensemble[i]
        if count[i] < 0:  # not begun: at the roots
            count[i] = forest.first[e + 1] - forest.first[e]
            node[i, : count[i]] = trees.tree_start[forest.first[e] : forest.first[e + 1]]
        low, high, row = brackets.low_rows[i], brackets.high_rows[i], rows[j]
        total, open_ = 0.0, 0
        for t in range(count[i]):
            at = node[i, t]
            while trees.feature[at] >= 0:
                f = trees.feature[at]
                left = goes_left(trees, at, low[f])
                if left != goes_left(trees, at, high[f]):
                    break
                at = trees.left[at] if left else trees.right[at]
            if trees.feature[at] < 0:
                brackets.settled[i] += trees.value[at]
                continue
            node[i, open_] = at
            open_ += 1
            while trees.feature[at] >= 0:
                left = goes_left(trees, at, row[trees.feature[at]])
                at = trees.left[at] if left else trees.right[at]
            total += trees.value[at]
        count[i] = open_
        out[j] = total + brackets.settled[i]
        if prior[e] >= 0:
            out[j] += row[prior[e]]


@njit(cache=True, error_model="numpy")
def _step(items, trial, upper, progress, brackets):  # type: ignore[no-untyped-def]
    """One step of Chandrupatla's method for each item: add its new point, choose the next one.

    Returns which items are still open.
    """
    going = np.ones(len(items), dtype=np.bool_)
    points, guess = progress.points, progress.guess
    for j in range(len(items)):
        i = items[j]
        x, f = trial.level[j], trial.excess[j]
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
            brackets.low_rows[i] = trial.rows[j]
        else:
            brackets.high_rows[i] = trial.rows[j]
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
        progress.part[i] = min(max(t, least), 1.0 - least)
    return going
