"""Bars: files, versions, outlier filter, history."""
