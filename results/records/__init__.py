"""Records, their schema, the folder that holds them, and the cache of scores."""
