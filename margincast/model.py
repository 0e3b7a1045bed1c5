"""The model of a bundle: load it, look at it, ask it for probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from margincast.frames import Frame, table_of
from market.core.errors import BundleError, DataError
from market.core.parquet_columns import floats
from models.bundle.bundle import Bundle, load_bundle as load_audited_bundle
from models.bundle.pointer import CHAMPION, POINTERS
from models.forecaster import Forecaster


class Model:
    """A bundle that passed its audit, ready to score.

    Made by `load_bundle` and `load_champion`. What it gives is equal to the last bit to what the
    endpoint and the command line give.

    Attributes
    ----------
    forecaster:
        What `margincast.score` asks for probabilities and levels.

    Examples
    --------
    >>> import margincast as mc
    >>> model = mc.load_champion()
    >>> model.horizons
    (1, 8, 24)
    >>> model.monotone["forecast_distance_24h"]
    -1
    """

    def __init__(self, bundle: Bundle) -> None:
        self.forecaster = Forecaster(bundle)

    @property
    def sha256(self) -> str:
        """Name of the bundle, the SHA-256 of its content."""
        return self.forecaster.bundle.sha256

    @property
    def path(self) -> Path:
        """Folder of the bundle."""
        return self.forecaster.bundle.path

    @property
    def horizons(self) -> tuple[int, ...]:
        """Horizons of the forecast, hours."""
        return self.forecaster.horizons

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Columns that the model reads, in order; `docs/features.md` defines them."""
        return self.forecaster.bundle.schema.features

    @property
    def monotone(self) -> Mapping[str, int]:
        """Direction of the probability in each column: -1, 0 or +1."""
        schema = self.forecaster.bundle.schema
        return MappingProxyType(dict(zip(schema.features, schema.monotone, strict=True)))

    @property
    def ruleset_sha256(self) -> str:
        """SHA-256 of the rule set under which the labels of the training were made."""
        return str(self.forecaster.bundle.manifest["ruleset_sha256"])

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What the bundle says of its training: span, rows, metrics, baselines, versions."""
        return MappingProxyType(self.forecaster.bundle.manifest)

    def predict(self, frame: Frame) -> pd.DataFrame:
        """Probability of a margin call within each horizon, of rows of the model's features.

        Parameters
        ----------
        frame:
            Has all `feature_names`, in any order; other columns are not read.

        Returns
        -------
        Columns ``p_1``, ``p_8`` and so on, with the index of a pandas frame; NaN where an input of
        the prior is NaN.

        Raises
        ------
        DataError
            A column is missing or holds no numbers.
        """
        table = table_of(frame, "features", self.feature_names)
        columns = [floats(table, name, "features") for name in self.feature_names]
        probability = self.forecaster.probability(np.column_stack(columns))
        index = frame.index if isinstance(frame, pd.DataFrame) else None
        names = [f"p_{hours}" for hours in self.horizons]
        return pd.DataFrame(probability, columns=names, index=index)

    def __repr__(self) -> str:
        return (
            f"Model({self.sha256[:12]}, horizons={list(self.horizons)}, "
            f"{len(self.feature_names)} features, ruleset={self.ruleset_sha256[:12]})"
        )


def load_bundle(path: str | Path) -> Model:
    """Audit a bundle and load it.

    Parameters
    ----------
    path:
        A bundle's folder, a pointer file (``champion``, ``previous``, ``challenger``), or the
        folder of bundles, of which the champion is loaded.

    Raises
    ------
    BundleError
        There is no bundle, or it failed its audit; nothing of it was used.

    Examples
    --------
    >>> import margincast as mc
    >>> model = mc.load_bundle("var/bundles")
    >>> mc.load_bundle(model.path).sha256 == model.sha256
    True
    """
    place = Path(path)
    if place.is_dir() and (place / CHAMPION).is_file():
        place = place / CHAMPION
    if not place.exists():
        raise BundleError(
            f"{place} does not exist; give a bundle's folder, a pointer file "
            f"({', '.join(POINTERS)}) or the folder of the bundles"
        )
    return Model(load_audited_bundle(place))


def load_champion(config: str | Path | None = None) -> Model:
    """Load the champion of a configuration.

    Parameters
    ----------
    config:
        The configuration file, whose ``[serving] bundles`` holds it; None: ``margincast.toml`` in
        the working directory.

    Raises
    ------
    ConfigError
        The configuration cannot be read.
    BundleError
        No bundle has been promoted, or the champion failed its audit.

    Examples
    --------
    >>> import margincast as mc
    >>> book = mc.simulate(days=10, symbols=2, accounts=5)
    >>> decisions = mc.score(
    ...     book.positions, book.collateral, book.market(), model=mc.load_champion()
    ... )
    >>> bool(decisions["p_24"].between(0.0, 1.0).all())
    True
    """
    from pipelines.config.config import load_config

    bundles = load_config(None if config is None else Path(config)).serving.bundles
    if not (bundles / CHAMPION).is_file():
        raise BundleError(
            f"{bundles} names no champion; train one with `margincast retrain`, or give "
            "load_bundle the folder of a bundle"
        )
    return load_bundle(bundles / CHAMPION)


def forecaster_of(model: Model | None) -> Forecaster | None:
    """What decides with a model; None without one.

    Raises
    ------
    DataError
        It is something else.
    """
    if model is None:
        return None
    if not isinstance(model, Model):
        raise DataError(
            f"model is a {type(model).__name__}; give what load_bundle or load_champion returns, "
            "or None to decide by the rules alone"
        )
    return model.forecaster
