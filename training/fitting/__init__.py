"""Fit and calibration of the models and baselines."""
