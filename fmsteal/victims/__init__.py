"""Victims: the models behind the API, and how they are made."""
