"""fmsteal: model stealing on vision foundation models, as Hydra-configured experiment sweeps."""

__version__ = "0.1.0"
