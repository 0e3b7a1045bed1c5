"""How the owners of sampled accounts behave: the ``[behaviour]`` table of a population.

What the figures do stands in `market.simulator.account_behaviour`; where they come from, in the
comments of ``market/simulator/populations/behaving-v1.toml``.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Hazard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hazard of one kind of action an hour; `account_behaviour` has the formula."""

    rate: Annotated[float, Meta(ge=0.0, le=10.0)]
    by_leverage: Annotated[float, Meta(ge=-5.0, le=5.0)]
    by_loss: Annotated[float, Meta(ge=-20.0, le=20.0)]
    by_gain: Annotated[float, Meta(ge=-20.0, le=20.0)]


class Amount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A multiple of equity: log-normal with `median` and `log_sigma`, at most `most`."""

    median: Annotated[float, Meta(gt=0.0, le=1e3)]
    log_sigma: Annotated[float, Meta(ge=0.0, le=5.0)]
    most: Annotated[float, Meta(gt=0.0, le=1e4)]


class Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A share, uniform from `least` to `most`."""

    least: Annotated[float, Meta(ge=0.0, le=1.0)]
    most: Annotated[float, Meta(gt=0.0, le=1.0)]

    def __post_init__(self) -> None:
        if self.least > self.most:
            raise ValueError(f"least {self.least} is above most {self.most}")


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`leverage_limit`: a withdrawal never leaves more gross notional over equity than this."""

    leverage_limit: Annotated[float, Meta(gt=0.0, le=1e3)]


class Behaviour(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Table ``[behaviour]`` of a population: hazards and sizes of each kind of action."""

    top_up: Hazard
    top_up_size: Amount
    withdrawal: Hazard
    withdrawal_share: Share
    reduction: Hazard
    reduction_share: Share
    closing: Hazard
    limits: Limits
