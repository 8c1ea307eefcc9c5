"""Edited models as checkpoints, records and boards as data sets of the hub."""
