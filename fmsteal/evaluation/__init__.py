"""Evaluation: how alike thief and victim are."""
