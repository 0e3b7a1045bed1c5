"""Reports on the terminal and as JSON."""
