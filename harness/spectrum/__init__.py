"""How strongly text acts on bands of curvature."""
