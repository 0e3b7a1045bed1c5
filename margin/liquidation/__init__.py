"""Liquidation arithmetic: prices, steps and shares of the loss. Nothing here sends an order.

``prices`` finds where an account is liquidated or bankrupt under any engine, ``partial``,
``auction`` and ``price_impact`` say how much is closed and at what price, ``book_liquidation``
applies them to accounts of a book, ``waterfall`` says who bears what is left (``insurance_fund``,
``shortfall`` with ``deleverage``, ``loss_sharing``), ``account`` collects the figures of one
account.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
