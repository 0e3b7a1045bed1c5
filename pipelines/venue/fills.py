"""How the simulated venue carries out instructions: at its mark, moved by what is traded.

References: Toth et al. (2011), "Anomalous price impact and the critical nature of liquidity":
impact grows with the square root of what is traded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.venue.client_answers import draws_of

REJECTED = 0.05
"""Share of closes that the venue rejects for reasons of its own."""

HALVED = 0.10
"""Share of closes of which it fills one half."""

HALF_SPREAD = 0.0002
"""Of the price."""

IMPACT = 0.05
"""Impact of trading a whole day's turnover, share of the price."""

MOST_IMPACT = 0.10
"""Share of the price."""

FEE = 0.0005
"""Share of the notional, paid by the account."""


@dataclass(frozen=True, slots=True)
class Carried:
    """What the venue made of an instruction.

    Attributes
    ----------
    answer:
        Body of its acknowledgement.
    deltas:
        Changes of the account that it reports before.
    """

    answer: dict[str, Any]
    deltas: list[dict[str, Any]]


def carry_out(event: Mapping[str, Any], seed: int, mark: float, turnover: float) -> Carried:
    """Carry out an instruction that was issued.

    ``price = mark * (1 ± (HALF_SPREAD + IMPACT * sqrt(notional / turnover)))``, against the
    account. Of a close that would end beyond its limit price, the part is filled whose impact
    reaches the limit.

    Parameters
    ----------
    event:
        Of topic ``instruction``, except a take-over, which replaces the account.
    seed:
        Of rejections and halves.
    mark, turnover:
        Price of the instrument and what is traded of it a day, settlement currency; NaN and 0
        without a market.
    """
    kind, parameters = event["kind"], event["parameters"]
    if kind in ("cancel_orders", "reduce_only"):
        return Carried({"status": "filled", "reference": event["event_id"]}, [])
    if "instrument" not in parameters:
        return _rejected(f"this venue does not offer {kind}")
    wanted = float(parameters["quantity"])
    chance = draws_of(seed, event["event_id"]).random()
    if not mark > 0.0 or chance < REJECTED:
        return _rejected("no market" if not mark > 0.0 else "the matching engine is busy")
    side = math.copysign(1.0, wanted)
    share = 0.5 if chance < REJECTED + HALVED else 1.0
    limit = parameters.get("limit_price")
    full = IMPACT * math.sqrt(abs(wanted) * mark / turnover) if turnover > 0.0 else MOST_IMPACT
    if limit is not None and full > 0.0:
        room = side * (float(limit) / mark - 1.0) - HALF_SPREAD
        share = min(share, (max(room, 0.0) / full) ** 2)
    quantity = wanted if share >= 1.0 else float(f"{wanted * share:.12g}")
    if quantity == 0.0:
        return _rejected("nothing can be traded within the limit price")
    moved = HALF_SPREAD + min(full * math.sqrt(share), MOST_IMPACT)
    price = float(f"{mark * (1.0 + side * moved):.10g}")
    fill = {
        "kind": "fill",
        "instrument": parameters["instrument"],
        "quantity": quantity,
        "price": price,
        "fee": round(FEE * abs(quantity) * price, 6),
    }
    answer = {
        "status": "filled" if share >= 1.0 else "partly_filled",
        "quantity": quantity,
        "price": price,
        "reference": event["event_id"],
    }
    return Carried(answer, [fill])


def _rejected(reason: str) -> Carried:
    return Carried({"status": "rejected", "reason": reason}, [])
