"""Quotes of instruments and option chains."""
