"""Shows what was read: tables in the terminal, plots, a page, LaTeX."""
