"""What a model is made of: the linear maps of its blocks, and their roles."""
