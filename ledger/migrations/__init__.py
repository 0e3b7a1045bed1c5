"""Revisions of the ledger's tables, and how a ledger of an earlier one is upgraded."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
