"""The embedded model: its world, its training, its weights."""
