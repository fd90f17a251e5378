"""The `fmsteal` command, also as `python -m fmsteal`."""

import sys

from fmsteal.base import stopping


def main() -> None:
    """Run the command; Ctrl-C and SIGTERM are handled before anything else is imported."""
    words = sys.argv[1:]
    with stopping.run_command(words):
        from fmsteal import cli

        cli.main(words)


if __name__ == "__main__":
    main()
