"""Records, statistics and tables. Never torch."""
