"""What `fmsteal verify` checks, one kind of file or figure in each module, by none of the code that writes them."""
