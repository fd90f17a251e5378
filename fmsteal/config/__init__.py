"""From a config to objects: its schema, the check of every option, and what an API answers with."""
