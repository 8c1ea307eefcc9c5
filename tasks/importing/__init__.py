"""Rows of other formats as files of a pack."""
