"""What is asked: task definitions, pure scoring functions, data packs. No torch, no model."""
