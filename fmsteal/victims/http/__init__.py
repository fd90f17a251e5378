"""A model behind an API: a victim that is asked over HTTP, for money."""
