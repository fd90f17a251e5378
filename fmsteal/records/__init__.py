"""What lies on the disk: every file's name, and what finished and unfinished jobs look like. No torch."""
