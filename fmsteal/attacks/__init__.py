"""Attacks: how answers become a thief."""
