"""``[standard]`` of a rule set: rule margin, position by position and expiry by expiry.

``margin/rulesets/derive-srm.toml`` documents every key; `margin.standard` gives the formulas.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from margin.rule_values import NonNegative


class StandardRules(Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters; see `margin.standard`. An entry of `underlyings` has figures of its own in
    the place of the common ones."""

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
    underlyings: dict[str, dict[str, NonNegative]] = {}

    def __post_init__(self) -> None:
        if self.settlement == "coin" and self.max_loss_offset:
            raise ValueError(
                "settlement is 'coin' and max_loss_offset is on, but the loss of a short put in "
                "coin has no bound; set max_loss_offset = false"
            )
        for name, own in self.underlyings.items():
            for key in own:
                if key not in FIGURES:
                    raise ValueError(
                        f"underlyings.{name}.{key} is no figure that an underlying can have of "
                        f"its own; expected one of {', '.join(FIGURES)}"
                    )

    def figure(self, key: str, underlying: str) -> float:
        """A figure of an underlying: its own, else the common one.

        Own figures of ``BTC`` are also those of its symbol ``BTCUSDT``.
        """
        name = underlying if underlying in self.underlyings else underlying.removesuffix("USDT")
        value: float = self.underlyings.get(name, {}).get(key, getattr(self, key))
        return value


FIGURES = tuple(
    name
    for name in StandardRules.__struct_fields__
    if name
    not in ("perp_reference", "max_loss_offset", "long_option_value", "settlement", "underlyings")
)
"""Keys that an underlying may have its own figure of."""
