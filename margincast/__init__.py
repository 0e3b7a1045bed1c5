"""Forecast margin calls in crypto derivatives and propose add-ons bounded by rules."""
