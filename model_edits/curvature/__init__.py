"""Curvature factors: collected, summed, decomposed, stored."""
