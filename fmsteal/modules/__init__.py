"""Lightning modules and the networks they train."""
