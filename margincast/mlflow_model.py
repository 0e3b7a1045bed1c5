"""Loader of the models that a training registers in MLflow.

Each version names this module in its file ``MLmodel``, so its path and `_load_pyfunc` must stay.
MLflow finds the bundle of the version beside that file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from market.core.errors import ModelError
from models.bundle.bundle import Bundle, load_bundle
from models.mlflow.logged_model import output_names


class ForecastModel:
    """A bundle that scores data frames; MLflow calls `predict`.

    Parameters
    ----------
    bundle:
        An audited bundle.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Probability of a margin call within each horizon, bit for bit that of the bundle.

        Parameters
        ----------
        frame:
            One row for each account, with the model's features as float64 columns in any order;
            further columns are not read. NaN is a missing value.

        Returns
        -------
        Columns ``p_1``, ``p_8``, … by horizon in hours, float64, with the index of `frame`; NaN
        where a distance of the prior is NaN.

        Raises
        ------
        ModelError
            `frame` is no data frame, or lacks a column, or one is not float64.

        References
        ----------
        MLflow documentation, ``mlflow.pyfunc``: "Inference API".
        """
        features = list(self._bundle.schema.features)
        if not isinstance(frame, pd.DataFrame):
            raise ModelError(
                f"the model was given {type(frame).__name__}; give a pandas DataFrame with the "
                f"columns {', '.join(features)}"
            )
        absent = [name for name in features if name not in frame.columns]
        if absent:
            raise ModelError(
                f"the frame lacks the column(s) {', '.join(absent)}; give every feature of the "
                "model, with NaN where a value is missing"
            )
        read = frame[features]
        others = [f"{name} ({kind})" for name, kind in read.dtypes.items() if kind != np.float64]
        if others:
            raise ModelError(
                f"column(s) {', '.join(others)} are not float64; convert them, with NaN for "
                "missing values"
            )
        probability = self._bundle.scorer.probability(np.ascontiguousarray(read.to_numpy()))
        names = output_names(self._bundle.schema)
        return pd.DataFrame(probability, columns=names, index=frame.index)


def _load_pyfunc(path: str) -> ForecastModel:
    """Audit the bundle beside ``MLmodel``, then load it; a `BundleError` says what is wrong."""
    return ForecastModel(load_bundle(Path(path)))
