"""The `fmsteal` command that looks for dead Slurm jobs every two seconds: ``python -m tests.support.impatient``."""

import sys

from fmsteal import cli
from fmsteal.sweep import on_submitit

if __name__ == "__main__":
    on_submitit.LOOK_SECONDS, on_submitit.LATE_SECONDS = 2, 2.0
    sys.argv[0] = "fmsteal"
    cli.main()
