"""Message schemas of the reading routes."""
