"""Jobs: one module a verb."""
