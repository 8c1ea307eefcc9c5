"""The items that are generated, from seeds."""
