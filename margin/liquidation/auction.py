"""Dutch auction of an account: the price asked over time, and how much of it may be sold.

Margins are signed as in `margin.engines.margins`: net of the mark-to-market, below zero where the
account is short of margin.
"""

from __future__ import annotations

from dataclasses import dataclass

from margin.rules.liquidation import AuctionRules
from market.core.errors import CaseError


@dataclass(frozen=True, slots=True)
class Offer:
    """An offer of an auction at one moment, settlement currency.

    Attributes
    ----------
    seconds:
        Since the auction began.
    solvent:
        Whether the buyer pays; else the fund pays the buyer.
    price_factor:
        Share of the mark-to-market asked; 0 in an insolvent auction.
    price:
        Paid for the whole account: above 0 by the buyer, below 0 by the fund.
    share:
        Largest share of the account that can be sold.
    """

    seconds: float
    solvent: bool
    price_factor: float
    price: float
    share: float


def buffer_margin(net: float, mark_to_market: float, buffer: float) -> float:
    """``BM = MM + buffer * (MM - MtM)``: the net margin with a buffer on the requirement."""
    return net + buffer * (net - mark_to_market)


def price_factor(seconds: float, rules: AuctionRules) -> float:
    """Share of the mark-to-market asked after so many seconds of a solvent auction.

    Falls linearly from `start` to `knee` in the fast phase, then to 0 in the slow one. A phase of 0
    seconds is over right after it began.

    References
    ----------
    Derive, "Liquidation Parameters".
    """
    _check_seconds(seconds)
    if seconds < rules.fast_seconds:
        return rules.start - (rules.start - rules.knee) * seconds / rules.fast_seconds
    if seconds == 0.0:
        return rules.start
    return rules.knee * (1.0 - _elapsed_share(seconds - rules.fast_seconds, rules.slow_seconds))


def largest_share(
    net: float, mark_to_market: float, factor: float, rules: AuctionRules, reserved: float = 0.0
) -> float:
    """``f_max = BM / (BM - MtM d - R (1 - d))``: the share whose sale restores the buffer.

    A sale of the share f at ``d * MtM`` leaves the margin ``(1 - f) BM + f d MtM`` where the
    requirement is proportional to the positions; f_max makes it 0.

    Parameters
    ----------
    net, mark_to_market:
        Net maintenance margin and mark-to-market of what is left of the account.
    factor:
        d, from `price_factor`.
    reserved:
        R: cash that earlier bids paid, which is not for sale.

    Returns
    -------
    0 where the buffer is met, 1 where only the sale of everything would do.

    References
    ----------
    Derive v2-core, ``DutchAuction.sol`` (maximum proportion).
    """
    short = min(0.0, buffer_margin(net, mark_to_market, rules.buffer))
    if short == 0.0:
        return 0.0
    below = short - mark_to_market * factor - reserved * (1.0 - factor)
    return min(1.0, short / below) if below < 0.0 else 1.0


def auction_fee(net: float, mark_to_market: float, rules: AuctionRules) -> float:
    """Fee to the fund at the start of a solvent auction: the fee rate on ``f_max * MtM``.

    0 where the mark-to-market is not above 0: such an auction begins insolvent.
    """
    if mark_to_market <= 0.0:
        return 0.0
    return rules.fee_rate * largest_share(net, mark_to_market, 1.0, rules) * mark_to_market


def solvent_offer(
    net: float, mark_to_market: float, seconds: float, rules: AuctionRules, reserved: float = 0.0
) -> Offer:
    """Offer of a solvent auction; its price is 0 where `reserved` cash is all there is."""
    factor = price_factor(seconds, rules)
    return Offer(
        seconds,
        True,
        factor,
        factor * max(0.0, mark_to_market - reserved),
        largest_share(net, mark_to_market, factor, rules, reserved),
    )


def insolvent_offer(
    net: float, mark_to_market: float, seconds: float, rules: AuctionRules
) -> Offer:
    """Offer of an insolvent auction: the fund pays ever more to the buyer of the account.

    The price falls linearly from ``min(0, MtM)`` to the net maintenance margin within
    `insolvent_seconds`, and is 0 for an account that meets it; everything is for sale.

    References
    ----------
    Derive v2-core, ``DutchAuction.sol`` (insolvent auction).
    """
    _check_seconds(seconds)
    if net >= 0.0:
        return Offer(seconds, False, 0.0, 0.0, 1.0)
    start = min(0.0, mark_to_market)
    end = min(start, net)
    elapsed = _elapsed_share(seconds, rules.insolvent_seconds)
    return Offer(seconds, False, 0.0, start + (end - start) * elapsed, 1.0)


def auction_steps(
    net: float, mark_to_market: float, rules: AuctionRules, count: int = 5
) -> tuple[Offer, ...]:
    """Offers over an auction in a market that stands still.

    An account worth something begins solvent: `count` offers in each phase, then the insolvent
    auction from its end on; one worth nothing begins insolvent. Each phase includes both ends.
    """
    if count < 2:
        raise CaseError(f"steps of an auction is {count}; expected 2 or more")
    parts = [k / (count - 1) for k in range(count)]
    offers: list[Offer] = []
    end = 0.0
    if mark_to_market > 0.0:
        end = rules.fast_seconds + rules.slow_seconds
        times = [part * rules.fast_seconds for part in parts]
        times += [rules.fast_seconds + part * rules.slow_seconds for part in parts[1:]]
        offers += [solvent_offer(net, mark_to_market, time, rules) for time in times]
    for part in parts:
        offer = insolvent_offer(net, mark_to_market, part * rules.insolvent_seconds, rules)
        offers.append(Offer(end + offer.seconds, False, 0.0, offer.price, offer.share))
    return tuple(offers)


def _elapsed_share(seconds: float, length: float) -> float:
    """Share of a phase that has elapsed; a phase of length 0 is over right after it began."""
    if length == 0.0:
        return 1.0 if seconds > 0.0 else 0.0
    return min(1.0, seconds / length)


def _check_seconds(seconds: float) -> None:
    if not seconds >= 0.0:
        raise CaseError(f"seconds since the start of the auction is {seconds}; expected 0 or more")
