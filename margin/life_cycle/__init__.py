"""Life cycle of a margin call: states, transitions, and the replay of a whole book.

``states`` holds N accounts, ``advance`` moves them with a new margin status (pure, no clock), and
``replay`` walks the accounts of files over the closes of a market: calls, liquidation steps or
auction sales, insurance fund and auto-deleverage.
"""
