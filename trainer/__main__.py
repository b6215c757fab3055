"""Entry point of the command `respodiff`."""

from __future__ import annotations

import importlib.util
import sys


def main() -> None:
    """Run the command line; says what to install where its libraries are missing."""
    if importlib.util.find_spec("typer") is None:
        sys.exit(
            'respodiff: the command line needs more than the nodes do; install it with: pip install "respodiff[train]"'
        )
    from .cli import app

    app()


if __name__ == "__main__":
    main()
