"""Tasks, query sets, and how batches of them are served."""
