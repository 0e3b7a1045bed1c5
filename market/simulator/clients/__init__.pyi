from .client_book import (
    ClientBook as ClientBook,
    OpenedAccount as OpenedAccount,
    PastMarket as PastMarket,
    draw_client_book as draw_client_book,
)
from .client_kinds import (
    ClientKind as ClientKind,
    ClientKinds as ClientKinds,
    ClientLimits as ClientLimits,
)

__all__ = [
    "ClientBook",
    "ClientKind",
    "ClientKinds",
    "ClientLimits",
    "OpenedAccount",
    "PastMarket",
    "draw_client_book",
]
