"""One job, from its config to its result: victim, guarded API, attack, theft, measurements."""
