"""Configuration: sections, defaults, checks."""
