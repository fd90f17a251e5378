"""Reads finished and running jobs into plain values."""
