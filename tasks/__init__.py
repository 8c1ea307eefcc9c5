"""Task definitions, pure scoring functions and data packs. No torch, no model."""
