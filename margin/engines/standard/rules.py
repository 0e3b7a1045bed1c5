"""``[standard]`` of a rule set: rule margin, position by position and expiry by expiry.

``margin/rules/presets/derive-srm.toml`` documents every key; `margin.engines.standard` gives the
formulas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
from msgspec import UNSET, Struct, UnsetType

from margin.rules.values import NonNegative

FiguresByName = Mapping[str, npt.NDArray[np.float64]]
"""Every figure of U underlyings by its key, shape (U,) each."""


class UnderlyingFigures(Struct, frozen=True, forbid_unknown_fields=True):
    """Figures that an underlying has of its own, in the place of the common ones."""

    depeg_threshold: NonNegative | UnsetType = UNSET
    depeg_factor: NonNegative | UnsetType = UNSET
    im_perp: NonNegative | UnsetType = UNSET
    mm_perp: NonNegative | UnsetType = UNSET
    perp_threshold: NonNegative | UnsetType = UNSET
    option_threshold: NonNegative | UnsetType = UNSET
    base_threshold: NonNegative | UnsetType = UNSET
    oc_factor: NonNegative | UnsetType = UNSET
    max_spot: NonNegative | UnsetType = UNSET
    min_spot: NonNegative | UnsetType = UNSET
    mm_call_spot: NonNegative | UnsetType = UNSET
    mm_put_spot: NonNegative | UnsetType = UNSET
    mm_put_mtm: NonNegative | UnsetType = UNSET
    unpaired_im: NonNegative | UnsetType = UNSET
    unpaired_mm: NonNegative | UnsetType = UNSET
    mm_offset: NonNegative | UnsetType = UNSET
    base_factor: NonNegative | UnsetType = UNSET
    base_im_scale: NonNegative | UnsetType = UNSET
    im_perp_per_unit: NonNegative | UnsetType = UNSET
    mm_perp_per_unit: NonNegative | UnsetType = UNSET


FIGURES = UnderlyingFigures.__struct_fields__
"""Keys of `StandardRules` that are figures, which an underlying may have of its own."""


class StandardRules(Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters, those of `underlyings` apart the same for all; see `standard`."""

    depeg_threshold: NonNegative
    depeg_factor: NonNegative
    im_perp: NonNegative
    mm_perp: NonNegative
    perp_threshold: NonNegative
    option_threshold: NonNegative
    base_threshold: NonNegative
    oc_factor: NonNegative
    max_spot: NonNegative
    min_spot: NonNegative
    mm_call_spot: NonNegative
    mm_put_spot: NonNegative
    mm_put_mtm: NonNegative
    unpaired_im: NonNegative
    unpaired_mm: NonNegative
    mm_offset: NonNegative
    base_factor: NonNegative
    base_im_scale: NonNegative
    im_perp_per_unit: NonNegative = 0.0
    mm_perp_per_unit: NonNegative = 0.0
    perp_reference: Literal["perp", "spot"] = "perp"
    max_loss_offset: bool = True
    long_option_value: bool = False
    settlement: Literal["quote", "coin"] = "quote"
    underlyings: dict[str, UnderlyingFigures] = {}

    def __post_init__(self) -> None:
        if self.settlement == "coin" and self.max_loss_offset:
            raise ValueError(
                "settlement is 'coin' and max_loss_offset is on, but the loss of a short put in "
                "coin has no bound; set max_loss_offset = false"
            )

    def figure(self, key: str, underlying: str) -> float:
        """A figure of an underlying: its own, else the common one.

        Own figures of ``BTC`` are also those of its symbol ``BTCUSDT``.
        """
        name = underlying if underlying in self.underlyings else underlying.removesuffix("USDT")
        own = getattr(self.underlyings.get(name), key, UNSET)
        value: float = getattr(self, key) if own is UNSET else own
        return value

    def figures(self, underlyings: tuple[str, ...]) -> FiguresByName:
        """Every figure of U underlyings by its key, shape (U,) each."""
        place = {name: i for i, name in enumerate(dict.fromkeys(underlyings))}
        row = np.array([place[name] for name in underlyings], dtype=np.int64)
        return {
            key: np.array([self.figure(key, name) for name in place], dtype=np.float64)[row]
            for key in FIGURES
        }
