"""How finished jobs are read, checked and shown."""
