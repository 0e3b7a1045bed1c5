"""Sources of market facts: bars, quotes and accounts as updates."""
