"""The `fmsteal` command, also as `python -m fmsteal`."""

import sys

from fmsteal.base import stopping


def main() -> None:
    """Run the command; Ctrl-C and SIGTERM are heeded before anything else is imported."""
    with stopping.run_command(sys.argv[1:]):
        from fmsteal import cli

        cli.main()


if __name__ == "__main__":
    main()
