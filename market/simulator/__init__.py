"""The simulated market and its sampled accounts."""
