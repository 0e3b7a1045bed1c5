"""Liquidation arithmetic: prices, steps and shares of the loss. Nothing here sends an order.

``prices`` finds where an account is liquidated or bankrupt under any engine, ``bracket_price`` and
``bankruptcy`` give the closed forms of a single contract, ``partial`` and ``auction`` how much is
closed, ``insurance_fund`` and ``deleverage`` who bears what is left.
"""
