"""The API under attack: budget, ledger, and the oracle in front of the victim."""
