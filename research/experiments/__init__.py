"""Experiments whose results the documentation quotes."""
