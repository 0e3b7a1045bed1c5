"""Life cycle of a margin call: states and transitions, and accounts of files over time.

``states`` holds N accounts, ``advance`` moves them with a new margin status (pure, no clock),
``call_rules`` says what a rule set calls, and ``account_replay`` gives the accounts of files at
each time with what a replay has done to them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
