"""Weights that depend on size: large collateral counts for less, large liabilities ask for more."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct

from margin.rules.values import NonNegative, Share

Floats = npt.NDArray[np.float64]

AtLeastOne = Annotated[float, Meta(ge=1)]


def liability_weight(weight: Floats, imf_factor: Floats, size: Floats) -> Floats:
    """``max(w, 0.8 w + imf * sqrt(size))``, elementwise, size in units of the asset.

    References
    ----------
    Drift Protocol v2, ``programs/drift/src/math/margin.rs``,
    ``calculate_size_premium_liability_weight``.
    """
    return np.maximum(weight, 0.8 * weight + imf_factor * np.sqrt(np.abs(size)))


def asset_weight(weight: Floats, imf_factor: Floats, size: Floats) -> Floats:
    """``min(w, 1.1 / (1 + imf * sqrt(size)))``, elementwise, size in units of the asset.

    References
    ----------
    Drift Protocol v2, ``programs/drift/src/math/margin.rs``,
    ``calculate_size_discount_asset_weight``.
    """
    return np.minimum(weight, 1.1 / (1.0 + imf_factor * np.sqrt(np.abs(size))))


class AssetWeights(Struct, frozen=True, forbid_unknown_fields=True):
    """Weights of one asset: of its value as collateral, and of its value as a debt.

    Attributes
    ----------
    initial_asset, maintenance_asset:
        Share of a deposit's value that counts, before its size.
    initial_liability, maintenance_liability:
        Multiple of a debt's value that must be held, before its size.
    imf_factor:
        How fast both move with the size, in the root of a unit of the asset; 0: not at all.
    """

    initial_asset: Share
    maintenance_asset: Share
    initial_liability: AtLeastOne
    maintenance_liability: AtLeastOne
    imf_factor: NonNegative = 0.0

    def __post_init__(self) -> None:
        if self.initial_asset > self.maintenance_asset:
            raise ValueError(
                f"initial_asset {self.initial_asset} is above maintenance_asset "
                f"{self.maintenance_asset}; it must be at most that"
            )
        if self.initial_liability < self.maintenance_liability:
            raise ValueError(
                f"initial_liability {self.initial_liability} is under maintenance_liability "
                f"{self.maintenance_liability}; it must be at least that"
            )

    def haircuts(self, amount: float) -> tuple[float, float]:
        """Shares of the value that do not count, initial and maintenance; 0 for a debt."""
        if amount <= 0.0:
            return 0.0, 0.0
        weights = np.array([self.initial_asset, self.maintenance_asset])
        counted = asset_weight(weights, np.array(self.imf_factor), np.array(amount))
        return float(1.0 - counted[0]), float(1.0 - counted[1])

    def premiums(self, amount: float) -> tuple[float, float]:
        """Shares of a debt asked on top of it, initial and maintenance; 0 for a deposit."""
        if amount >= 0.0:
            return 0.0, 0.0
        weights = np.array([self.initial_liability, self.maintenance_liability])
        asked = liability_weight(weights, np.array(self.imf_factor), np.array(amount))
        return float(asked[0] - 1.0), float(asked[1] - 1.0)
