from .account import liquidation_of as liquidation_of
from .book_liquidation import (
    Sale as Sale,
    book_step as book_step,
    close_at_mark as close_at_mark,
    sell_at_auction as sell_at_auction,
    take_over as take_over,
)
from .insurance_fund import InsuranceFund as InsuranceFund
from .partial import Step as Step
from .shortfall import (
    ClosedPosition as ClosedPosition,
    Contribution as Contribution,
    closed_positions as closed_positions,
    share_loss as share_loss,
)
from .waterfall import (
    Coverage as Coverage,
    Survivors as Survivors,
    Transfer as Transfer,
    cover_shortfall as cover_shortfall,
)

__all__ = [
    "ClosedPosition",
    "Contribution",
    "Coverage",
    "InsuranceFund",
    "Sale",
    "Step",
    "Survivors",
    "Transfer",
    "book_step",
    "close_at_mark",
    "closed_positions",
    "cover_shortfall",
    "liquidation_of",
    "sell_at_auction",
    "share_loss",
    "take_over",
]
