"""Liquidity features."""
