"""The files on disk: their names, and how finished and unfinished jobs are read. No torch."""
