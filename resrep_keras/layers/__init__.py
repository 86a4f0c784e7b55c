"""Layers that pruning puts into a model for the time of training."""
