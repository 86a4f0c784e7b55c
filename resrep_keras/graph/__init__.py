"""Floor 1: understands a model's channels and never alters the model."""
