"""Entry point of the command `respodiff`."""

from __future__ import annotations

import os

from .support.interrupts import exit_on_signal
from .support.processes import is_main_process
from .support.threads import passive_waiting


def main() -> None:
    """Run the command line, or print what to install if its libraries are missing."""
    os.environ |= passive_waiting()
    with exit_on_signal(announce=is_main_process()):  # before the libraries load, which takes seconds
        _run()


def _run() -> None:
    import importlib.util
    import sys

    if importlib.util.find_spec("typer") is None:
        sys.exit(
            'respodiff: the command line needs more than the nodes do; install it with: pip install "respodiff[train]"'
        )
    from .commands.app import app

    app()


if __name__ == "__main__":
    main()
