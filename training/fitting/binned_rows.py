"""Rows binned once for LightGBM, for all horizons and rounds of fitting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt

from market.core.arrays import Floats
from training.labels.dataset import Dataset

Rows = npt.NDArray[np.intp]

_BATCH = 65_536


class _Gathered(lightgbm.Sequence):
    """Some rows and columns of a matrix, copied a batch at a time as LightGBM bins them."""

    def __init__(self, features: Floats, rows: Rows, columns: Rows) -> None:
        self._features, self._rows, self._columns = features, rows, columns
        self.batch_size = _BATCH

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Floats:
        rows = self._rows[index]
        chosen: Floats = self._features[rows[..., None], self._columns]
        return chosen


class BinnedRows:
    """Training rows of one set of columns as LightGBM bins them, and named subsets of them.

    The float64 features are not copied but in batches, while they are binned. Bins are cut at
    quantiles of the features of all rows; no label takes part.

    Parameters
    ----------
    data:
        The data set that holds the features.
    rows:
        Its rows to bin.
    columns:
        Positions of the columns in its features, and their names.
    parameters:
        Of LightGBM; those that concern bins must be the same in every training.
    """

    def __init__(
        self,
        data: Dataset,
        rows: Rows,
        columns: Mapping[str, int],
        parameters: Mapping[str, Any],
    ) -> None:
        self._features = data.features
        self._rows = rows
        self._columns = np.array(list(columns.values()), dtype=np.intp)
        self._whole = lightgbm.Dataset(
            _Gathered(data.features, rows, self._columns),
            feature_name=list(columns),
            params={**parameters, "feature_pre_filter": False},
        ).construct()
        self._parts: dict[str, tuple[Rows, lightgbm.Dataset]] = {}

    def add_part(self, name: str, part: Rows) -> None:
        """Name some of the rows, given by their rising places among `rows`."""
        subset = self._whole.subset(part.tolist()) if len(part) < len(self._rows) else self._whole
        self._parts[name] = (part, subset.construct())

    def size(self, name: str) -> int:
        """Number of rows of a part."""
        return len(self._parts[name][0])

    def train(
        self,
        name: str,
        labels: npt.NDArray[np.int8],
        weight: Floats,
        parameters: Mapping[str, Any],
        rounds: int,
        *,
        start: Floats | None = None,
        stop_on: tuple[str, int] | None = None,
    ) -> lightgbm.Booster:
        """Train on one part.

        Parameters
        ----------
        name:
            The part.
        labels, weight, start:
            Of all `rows`, shape (N,): outcomes, weights and initial scores.
        parameters:
            Of LightGBM.
        rounds:
            Number of trees; the most there may be with `stop_on`.
        stop_on:
            Another part, and the rounds without a smaller loss on it after which to stop;
            ``best_iteration`` of the booster is then the number of trees.
        """
        others = [] if stop_on is None else [stop_on[0]]
        for each in (name, *others):
            part, subset = self._parts[each]
            subset.set_label(labels[part].astype(np.float32))
            subset.set_weight(weight[part].astype(np.float32))
            subset.set_init_score(None if start is None else start[part])
        callbacks: list[Callable[..., Any]] = []
        if stop_on is not None:
            callbacks.append(lightgbm.early_stopping(stop_on[1], verbose=False))
        return lightgbm.train(
            dict(parameters),
            self._parts[name][1],
            num_boost_round=rounds,
            valid_sets=[self._parts[each][1] for each in others],
            callbacks=callbacks,
        )

    def raw_score(self, boosters: Sequence[lightgbm.Booster], part: Rows) -> Floats:
        """Mean raw score of boosters on some of the rows, without initial scores, shape (n,)."""
        score = np.zeros(len(part))
        for begin in range(0, len(part), _BATCH):
            rows = self._rows[part[begin : begin + _BATCH]]
            x = self._features[rows[:, None], self._columns]
            for booster in boosters:
                score[begin : begin + _BATCH] += np.asarray(booster.predict(x, raw_score=True))
        return score / len(boosters)

    def staged_scores(
        self, booster: lightgbm.Booster, part: Rows, rounds: Sequence[int]
    ) -> Iterator[Floats]:
        """Raw scores after each number of trees, without initial scores, batch by batch of rows.

        `rounds` rises from 1 or more; each batch has shape (n, len(rounds)).
        """
        for begin in range(0, len(part), _BATCH):
            rows = self._rows[part[begin : begin + _BATCH]]
            x = self._features[rows[:, None], self._columns]
            scores, score, done = np.empty((len(rows), len(rounds))), np.zeros(len(rows)), 0
            for place, trees in enumerate(rounds):
                # Trees that could not be split further are missing from a booster.
                if done < booster.current_iteration():
                    more = booster.predict(
                        x, raw_score=True, start_iteration=done, num_iteration=trees - done
                    )
                    score = score + np.asarray(more)
                scores[:, place], done = score, trees
            yield scores
