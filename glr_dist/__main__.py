"""``python -m glr_dist``: the command line, without the current folder, which ``-m`` lets every import look at first."""

import os
import sys

if not sys.flags.safe_path and sys.path and sys.path[0] in ("", os.getcwd()):  # noqa: PTH109  pathlib is not imported yet
    del sys.path[0]

from glr_dist.cli import main

if __name__ == "__main__":
    main(prog_name="glr-dist")
