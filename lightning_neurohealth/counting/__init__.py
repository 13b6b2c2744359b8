"""Statistics of all layers, over steps and ranks."""
