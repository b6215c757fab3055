"""What a process knows of the others it was launched with."""

from __future__ import annotations

import os


def is_main_process() -> bool:
    """Whether this is the one of several launched processes that tells how it went; each tells its own errors."""
    return os.environ.get("RANK", "0") == "0"
