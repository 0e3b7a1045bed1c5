"""Enforcement under faults: the same real hours with and without kills of the monitor."""
