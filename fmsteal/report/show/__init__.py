"""Shows what was read: tables in a terminal, plots, a page, LaTeX."""
