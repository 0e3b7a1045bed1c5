"""Life cycle of a margin call: states, transitions, and the replay of a whole book.

``states`` holds N accounts, ``advance`` moves them with a new margin status (pure, no clock), and
``replay`` walks the accounts of files over the closes of a market: calls, liquidation steps or
auction sales, insurance fund and auto-deleverage.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
