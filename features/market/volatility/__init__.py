"""Volatility features."""
