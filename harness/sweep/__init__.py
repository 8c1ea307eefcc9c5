"""Many evaluations: a grid of edits, chosen on dev and reported on test."""
