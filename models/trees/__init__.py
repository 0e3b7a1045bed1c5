"""Gradient-boosted trees as arrays: tables, contributions, bracketing of levels."""
