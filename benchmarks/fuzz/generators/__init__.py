"""Generators of requests: plausible ones, and hostile values put into them."""
