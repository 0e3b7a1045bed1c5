"""Prices of contracts: Black-76 options, and what linear and inverse contracts are worth."""
