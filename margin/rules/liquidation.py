"""``[liquidation]`` of a rule set: how a venue closes an account that is below its margin.

A rule set without the table takes the defaults stated here: as much of every position as brings
the account back to its maintenance margin and a tenth of it, at the mark, without fee, auction or
fund.
"""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from margin.rules.values import NonNegative, Share


class PartialRules(Struct, frozen=True, forbid_unknown_fields=True):
    """``[liquidation.partial]``: how much is closed at a time, see `margin.liquidation.partial`.

    Attributes
    ----------
    method:
        ``buffer``: the smallest share of the positions that restores the margin and a buffer;
        ``share``: a share of every large position and small ones whole; ``whole``: everything.
    order:
        Of ``buffer``: the same share of every position (``pro_rata``), or one position after the
        other, those that take the most maintenance margin first (``largest_first``).
    buffer:
        Restored beyond the margin, as a share of the maintenance requirement that is left. A
        liquidation ends with a step only where this is above the `cure_share` of the life cycle.
    share, share_above:
        Of ``share``: closed of a position whose notional is above `share_above`.
    cooldown_seconds:
        Of ``share``: within this time after a step positions are closed whole.
    fee_rate, margin_fee_rate:
        Paid on the notional that is closed, and on the maintenance requirement that is freed.
    multiple_of:
        Of ``buffer``: shares are rounded up to multiples of this; 0: any share.
    ramp_start, ramp_seconds:
        Of ``buffer``: share of the shortage that may be freed at once, and the time until all of
        it may; 1 and 0: at once.
    small_shortage:
        Of ``buffer``: a shortage below this is freed at once, settlement currency.
    """

    method: Literal["buffer", "share", "whole"] = "buffer"
    order: Literal["pro_rata", "largest_first"] = "pro_rata"
    buffer: NonNegative = 0.1
    share: Share = 1.0
    share_above: NonNegative = 0.0
    cooldown_seconds: NonNegative = 0.0
    fee_rate: Share = 0.0
    margin_fee_rate: Share = 0.0
    multiple_of: Share = 0.0
    ramp_start: Share = 1.0
    ramp_seconds: NonNegative = 0.0
    small_shortage: NonNegative = 0.0


class AuctionRules(Struct, frozen=True, forbid_unknown_fields=True):
    """``[liquidation.auction]``: a Dutch auction of the account, see `margin.liquidation.auction`.

    Attributes
    ----------
    start, knee:
        Share of the mark-to-market that is the price at first, and at the end of the fast phase.
    fast_seconds, slow_seconds:
        Length of the fast phase, and of the slow one from `knee` to nothing.
    insolvent_seconds:
        Time in which the fund's offer rises from nothing to the whole shortage.
    buffer:
        Restored beyond the maintenance margin, as a share of the requirement.
    fee_rate:
        Paid to the fund, on the largest share that can be sold times the mark-to-market.
    """

    start: Share
    knee: Share
    fast_seconds: NonNegative
    slow_seconds: NonNegative
    insolvent_seconds: NonNegative
    buffer: NonNegative = 0.0
    fee_rate: Share = 0.0

    def __post_init__(self) -> None:
        if self.knee > self.start:
            raise ValueError(
                f"knee {self.knee} is above start {self.start}; the price must not rise"
            )


class FundRules(Struct, frozen=True, forbid_unknown_fields=True):
    """``[liquidation.fund]``: the insurance fund, see `margin.liquidation.insurance_fund`.

    Attributes
    ----------
    balance:
        What it holds when a replay begins, settlement currency; absent: nothing, and the fees of
        liquidations fill it.
    max_draw:
        Most that one account's shortfall may take; absent: all there is.
    fill_spread:
        Furthest a closing order may go from the mark, as a multiple of the position's maintenance
        margin rate; see `margin.liquidation.price_impact.fillable_price`. Absent: orders have no
        such limit.
    bankruptcy_adjustment:
        How fast the spread widens as equity falls below the requirement.
    """

    balance: NonNegative | UnsetType = UNSET
    max_draw: NonNegative | UnsetType = UNSET
    fill_spread: NonNegative | UnsetType = UNSET
    bankruptcy_adjustment: NonNegative = 1.0


class DeleverageRules(Struct, frozen=True, forbid_unknown_fields=True):
    """``[liquidation.deleverage]``: whose profitable positions are closed when the fund cannot pay.

    `ranking` is one of those of `margin.liquidation.deleverage`.
    """

    ranking: Literal["profit_leverage", "profit_margin_ratio", "price_leverage", "account"]


class LossSharingRules(Struct, frozen=True, forbid_unknown_fields=True):
    """``[liquidation.loss_sharing]``: who bears what fund and deleverage leave, pro rata.

    `basis`: ``profit`` (unrealised), ``equity``, or ``open_interest`` (size held in the closed
    instrument); see `margin.liquidation.loss_sharing`.
    """

    basis: Literal["profit", "equity", "open_interest"]


class LiquidationRules(Struct, frozen=True, forbid_unknown_fields=True):
    """``[liquidation]``; see `margin.liquidation`.

    Attributes
    ----------
    backstop_share:
        An account with less equity than this share of its maintenance requirement is taken over
        whole; 0: none is.
    price_impact:
        ``depth``: closes are made at the price that the figures of ``[floors.liquidity]`` expect,
        and the account pays the difference from the mark, see `margin.liquidation.price_impact`;
        ``none``, or absent: at the mark.
    """

    partial: PartialRules = PartialRules()
    backstop_share: Share = 0.0
    auction: AuctionRules | UnsetType = UNSET
    fund: FundRules | UnsetType = UNSET
    deleverage: DeleverageRules | UnsetType = UNSET
    price_impact: Literal["none", "depth"] | UnsetType = UNSET
    loss_sharing: LossSharingRules | UnsetType = UNSET
