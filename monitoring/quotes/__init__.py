"""Live quotes: checks, outlier filter references, surfaces."""
