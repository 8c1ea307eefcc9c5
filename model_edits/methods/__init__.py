"""The built-in edits: each is a class in a file of the edit's name, which the registry finds by that name."""
