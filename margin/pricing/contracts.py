"""What linear and inverse contracts are worth.

Linear: settled in the quote currency, sized in units of the underlying. Inverse: settled in the
coin itself; futures and perpetuals are sized in the quote currency, options in coin.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from market.core.errors import DataError

Floats = npt.NDArray[np.float64]


def linear_pnl(size: npt.ArrayLike, entry: npt.ArrayLike, mark: npt.ArrayLike) -> Floats:
    """Profit and loss of a linear future or perpetual: ``size * (mark - entry)``.

    Parameters
    ----------
    size:
        Signed, units of the underlying.
    entry, mark:
        Prices above 0 in the quote currency.

    Returns
    -------
    In the quote currency, in the shape the arguments broadcast to; NaN where a number is NaN.

    Raises
    ------
    DataError
        A price is 0, negative or infinite.
    """
    held, before, now = _priced(size, entry=entry, mark=mark)
    return np.asarray(held * (now - before))


def inverse_pnl(size: npt.ArrayLike, entry: npt.ArrayLike, mark: npt.ArrayLike) -> Floats:
    """Profit and loss of an inverse future or perpetual: ``size * (1 / entry - 1 / mark)``.

    The arguments are those of `linear_pnl`, but `size` is signed in the quote currency (USD) and
    the result is in coin. Its value in USD, at the mark, is ``size * (mark / entry - 1)``.
    """
    held, before, now = _priced(size, entry=entry, mark=mark)
    return np.asarray(held * (1.0 / before - 1.0 / now))


def inverse_option_value(value: npt.ArrayLike, spot: npt.ArrayLike) -> Floats:
    """Value in coin of a coin-settled option: ``value / spot``.

    Parameters
    ----------
    value:
        In the quote currency, as `margin.pricing.black76.black76_price` gives it.
    spot:
        Price of the coin above 0.

    Raises
    ------
    DataError
        A price is 0, negative or infinite.
    """
    worth, price = _priced(value, spot=spot)
    return np.asarray(worth / price)


def _priced(amount: npt.ArrayLike, **prices: npt.ArrayLike) -> tuple[Floats, ...]:
    columns = [np.asarray(amount, dtype=np.float64)]
    for name, given in prices.items():
        column = np.asarray(given, dtype=np.float64)
        wrong = (column <= 0.0) | np.isinf(column)
        if wrong.any():
            raise DataError(
                f"{name} {column[wrong].flat[0]} values no contract; expected a price above 0"
            )
        columns.append(column)
    return tuple(columns)
