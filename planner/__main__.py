"""`python -m planner` is the console script."""

from __future__ import annotations

import sys

from planner.cli import console

if __name__ == "__main__":
    sys.exit(console())
