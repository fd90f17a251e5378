"""Defenses: what the API does to an answer before it leaves."""
