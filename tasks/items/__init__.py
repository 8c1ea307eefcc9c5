"""Items that are generated from seeds."""
