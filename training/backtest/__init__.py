"""Backtest of the add-on as a margin policy."""
