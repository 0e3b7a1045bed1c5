"""Recorded accounts of two venues: rebuilt from their records, scored, beside the sampled ones."""
