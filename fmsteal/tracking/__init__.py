"""Where curves and figures go while a run is under way."""
