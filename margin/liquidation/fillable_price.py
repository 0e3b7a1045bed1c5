"""How far from the mark a closing order may go (dYdX): the fillable price."""

from __future__ import annotations

from market.core.errors import CaseError


def fillable_price(
    quantity: float,
    mark: float,
    maintenance: float,
    equity: float,
    total_maintenance: float,
    *,
    fill_spread: float,
    bankruptcy_adjustment: float = 1.0,
) -> float:
    """``(q p - ABR * spread * MM) / q`` with ``ABR = clamp(BA (1 - equity / total MM), 0, 1)``.

    A long is sold below the mark, a short bought above it, the further the less equity is left.

    Parameters
    ----------
    quantity, mark:
        Of the position; signed, settlement currency.
    maintenance:
        Maintenance margin of the position.
    equity, total_maintenance:
        Of the account.
    fill_spread:
        At an equity of 0, as a multiple of the maintenance margin.
    bankruptcy_adjustment:
        BA: 1 or more reaches the whole spread earlier.

    Raises
    ------
    CaseError
        The position is flat, or the account has no maintenance margin.

    References
    ----------
    dYdX v4-chain, ``x/clob/keeper/liquidations.go`` (fillable price); "Contract loss mechanisms
    on dYdX Chain" (largest spread 1.5 times the maintenance margin requirement).
    """
    if quantity == 0.0 or not total_maintenance > 0.0:
        raise CaseError(
            f"quantity is {quantity} and the account's maintenance margin {total_maintenance}; "
            "a fillable price needs a position and a margin above 0"
        )
    rating = bankruptcy_adjustment * (1.0 - equity / total_maintenance)
    return mark - min(1.0, max(0.0, rating)) * fill_spread * maintenance / quantity
