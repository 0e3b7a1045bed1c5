"""Fit the simulator to real data."""
