from .account_store import AccountStore as AccountStore
from .book_account import BookAccount as BookAccount
from .live_book import BookSegment as BookSegment, LiveBook as LiveBook

__all__ = ["AccountStore", "BookAccount", "BookSegment", "LiveBook"]
