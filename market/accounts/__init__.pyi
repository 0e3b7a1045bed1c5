from .account_files import (
    CLOSED as CLOSED,
    AccountHistory as AccountHistory,
    Event as Event,
    make_history as make_history,
    read_accounts as read_accounts,
    write_accounts as write_accounts,
)
from .account_quality import check_accounts as check_accounts
from .book import (
    SETTLEMENT_CURRENCY as SETTLEMENT_CURRENCY,
    Account as Account,
    Balance as Balance,
    Book as Book,
    Position as Position,
)

__all__ = [
    "CLOSED",
    "SETTLEMENT_CURRENCY",
    "Account",
    "AccountHistory",
    "Balance",
    "Book",
    "Event",
    "Position",
    "check_accounts",
    "make_history",
    "read_accounts",
    "write_accounts",
]
