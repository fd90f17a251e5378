"""`python -m fmsteal`: the same as the `fmsteal` command."""

from fmsteal.cli import main

if __name__ == "__main__":
    main()
