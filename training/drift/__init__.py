"""Drift monitors."""
