"""From a config to objects: its schema, the check of every option, and the kind of answers an API gives."""
