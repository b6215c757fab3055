"""Ctrl-C and SIGTERM as a wish to stop after the step under way, so that nothing learned is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """Training stopped because `signal` asked for it; `exit_code` is the shell's convention for that signal."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = number
        self.exit_code = 128 + number


class StopRequest:
    """Which signal asked to stop, or None; `says` whether this process tells the person at the screen."""

    def __init__(self, says: bool = True) -> None:
        self.signal: int | None = None
        self.says = says

    def ask(self, number: int, _frame: FrameType | None) -> None:
        """Signal handler; a second Ctrl-C stops at once."""
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        if self.says:  # not through logging or a stream, which the signal may have interrupted
            os.write(2, b"\nStopping after this step. Ctrl-C again stops at once, with what was saved before.\n")


@contextmanager
def stop_requests(says: bool = True) -> Iterator[StopRequest]:
    """Listen to SIGINT and SIGTERM while the context is open."""
    request = StopRequest(says)
    before = {number: signal.signal(number, request.ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
