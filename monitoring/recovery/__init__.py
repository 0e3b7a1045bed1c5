"""Recovery: live market state from recorded entries."""
