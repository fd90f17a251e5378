"""A victim as a service: the same model, defense and accounting over HTTP."""
