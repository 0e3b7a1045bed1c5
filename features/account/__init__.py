"""Account features."""
