"""What finished and running jobs say, as plain values."""
