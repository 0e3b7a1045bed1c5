from .recorded_quotes import RecordedQuotes as RecordedQuotes
from .recorded_steps import (
    rows_before_the_newest as rows_before_the_newest,
    rows_known_at as rows_known_at,
)
from .recovery import (
    QUOTE_BOARD as QUOTE_BOARD,
    SAVED_EVERY as SAVED_EVERY,
    RecoveryInputs as RecoveryInputs,
    apply_record as apply_record,
    first_misfits as first_misfits,
    market_chain as market_chain,
    quote_checks as quote_checks,
    replay_market_records as replay_market_records,
    saved_board as saved_board,
)

__all__ = [
    "QUOTE_BOARD",
    "SAVED_EVERY",
    "RecordedQuotes",
    "RecoveryInputs",
    "apply_record",
    "first_misfits",
    "market_chain",
    "quote_checks",
    "replay_market_records",
    "rows_before_the_newest",
    "rows_known_at",
    "saved_board",
]
