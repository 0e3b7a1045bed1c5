"""How far from the mark a closing order may go (dYdX): the fillable price."""

from __future__ import annotations

from msgspec import UNSET

from margin.rules.liquidation import FundRules


def fillable_price(
    quantity: float, mark: float, maintenance: float, margin_cover: float, rules: FundRules
) -> float:
    """``(q p - ABR * spread * MM) / q`` with ``ABR = clamp(BA (1 - equity / total MM), 0, 1)``.

    A long is sold below the mark, a short bought above it, the further the less equity is left.

    Parameters
    ----------
    quantity, mark, maintenance:
        Of the position: signed and not 0, mark and maintenance margin in settlement currency.
    margin_cover:
        ``equity / total MM`` of the account.
    rules:
        ``[liquidation.fund]``: `fill_spread` is the spread at an equity of 0, as a multiple of the
        maintenance margin; BA is `bankruptcy_adjustment`, 1 or more reaches it earlier.

    Returns
    -------
    The mark itself where the rules have no spread.

    References
    ----------
    dYdX v4-chain, ``x/clob/keeper/liquidations.go`` (fillable price); "Contract loss mechanisms
    on dYdX Chain" (largest spread 1.5 times the maintenance margin requirement).
    """
    if rules.fill_spread is UNSET:
        return mark
    rating = min(1.0, max(0.0, rules.bankruptcy_adjustment * (1.0 - margin_cover)))
    return mark - rating * rules.fill_spread * maintenance / quantity
