"""Weights to weights: the spec grammar, the edits, the curvature they need, and putting edited weights into a model."""
