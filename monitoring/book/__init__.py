"""The live book: accounts by snapshots and numbered changes, in the ledger and in memory."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
