"""Finds the layers of a model from one forward pass."""
