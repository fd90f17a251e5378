"""Public backbones and their weights."""
