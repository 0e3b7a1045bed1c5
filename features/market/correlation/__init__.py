"""Correlation features."""
