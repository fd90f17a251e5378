"""Sweeps: their jobs are composed, checked, recorded and launched here."""
