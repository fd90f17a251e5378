"""``fmsteal audit``: what attackers reach against a model of yours, as a page for its owner."""
