"""Valuation: mark prices, instruments, exposures and collateral."""
