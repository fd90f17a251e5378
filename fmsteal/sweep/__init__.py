"""Sweeps: what identifies a job, and what is wrong with a command line."""
