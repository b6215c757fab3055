"""The role of this process among several launched ones."""

from __future__ import annotations

import os


def is_main_process() -> bool:
    """Whether this process reports results; errors are reported by every process."""
    return os.environ.get("RANK", "0") == "0"
