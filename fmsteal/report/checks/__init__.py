"""The checks of `fmsteal verify`, a module for each kind of file or figure; none uses the code that writes them."""
