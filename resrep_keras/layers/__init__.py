"""Layers: those that pruning puts into a model while it trains, and one for users."""
