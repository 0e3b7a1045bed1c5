"""Margin cases: JSON lines in and out."""
