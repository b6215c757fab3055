"""Ctrl-C and SIGTERM: a command ends within two seconds, at any point, and leaves no partial files.

The first signal raises Interrupted in the main thread, as Ctrl-C raises KeyboardInterrupt in any Python program; loops
that end at a certain point (`stop_requests`) get a grace period to reach it. The exception alone is not enough: Python
drops it within a destructor, a library may catch it, and a call or another thread may run for minutes. A watchdog
thread therefore raises a dropped exception again, and after LIMIT seconds undoes unfinished work and ends the process.
"""

from __future__ import annotations

import _thread
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType
from typing import Any

from ...respodiff_core.unfinished import undo_all
from .terminal import wrapped

GRACE = 0.8  # seconds for the current step or batch to finish
LIMIT = 1.7  # seconds until the process is ended
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SAME_PRESS = 0.3  # seconds: a launcher forwards the signal that the terminal has already sent to every process
_TICK = 0.02  # seconds between checks of the watchdog thread after a signal
_STOPPED = "Stopped. What was saved before is kept."


class Interrupted(BaseException):
    """Raised on SIGINT or SIGTERM. Like KeyboardInterrupt it is not an Exception, which libraries may catch."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = number

    @property
    def exit_code(self) -> int:
        """The conventional exit code for the signal: 130 or 143."""
        return 128 + self.signal


@contextmanager
def stop_message(message: str) -> Iterator[None]:
    """Set the message of an Interrupted that leaves the block."""
    try:
        yield
    except Interrupted as stop:
        raise Interrupted(message, stop.signal) from None


class StopRequest:
    """A request to stop, checked by a loop that ends at a point of its choice."""

    def __init__(self, grace: float | None, announce: bool) -> None:
        self.grace = grace
        self.announce = announce
        self.signal: int | None = None
        self.is_noticed = False

    def requested(self) -> int:
        """The signal that requested the stop, or 0. A caller that gets a signal must end now."""
        self.is_noticed = self.signal is not None
        return self.signal or 0


@contextmanager
def stop_requests(announce: bool = True, grace: float | None = GRACE) -> Iterator[StopRequest]:
    """While the block runs, the first signal is a request to stop.

    Interrupted is raised at a second Ctrl-C, or if the request has not been checked after `grace` seconds (None: no
    limit). `announce` is whether this process prints messages.
    """
    with nullcontext(_current) if _current else _handling_signals(ends_process=False) as interrupts:
        request = StopRequest(grace, announce)
        interrupts.requests.append(request)
        try:
            yield request
        finally:
            interrupts.requests.remove(request)


@contextmanager
def shielded() -> Iterator[None]:
    """Delay Interrupted until the end of the block, for renames that belong together and for calls in which an
    exception would abort the process. If the block takes too long, the process is ended anyway.
    """
    if _current is None:
        yield
        return
    _current.shields += 1
    try:
        yield
    finally:
        _current.shields -= 1
        _current.raise_pending()


@contextmanager
def exit_on_signal(announce: bool) -> Iterator[None]:
    """Wrap a whole command, in the main thread: after a signal the process ends soon, with the exit code of the signal.

    `announce` is whether this process prints messages.
    """
    with _handling_signals(ends_process=True, announce=announce) as interrupts:
        try:
            yield
        except BaseException as end:
            if interrupts.signal is None:
                raise
            is_done = isinstance(end, SystemExit) and not end.code
            interrupts.end("" if is_done else str(end) if isinstance(end, Interrupted) else _STOPPED)


class _Interrupts:
    """The handler of both signals, and the watchdog that makes sure that the process ends."""

    def __init__(self, ends_process: bool, announce: bool) -> None:
        self.signal: int | None = None
        self.requests: list[StopRequest] = []
        self.shields = 0
        self.is_over = False
        self._ends_process = ends_process
        self._announce = announce
        self._signalled_at = 0.0
        self._from_watchdog = False  # the current signal was sent by the watchdog
        self._dropped = False
        self._pending = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Signal handler."""
        from_watchdog, self._from_watchdog = self._from_watchdog, False
        is_first = self.signal is None
        if is_first:
            self.signal, self._signalled_at = number, time.monotonic()
            for request in self.requests:
                request.signal = number
        if self.is_over:
            self.end("")
        if is_first and self.requests and not from_watchdog:
            if self.requests[-1].announce:  # not through a stream, which the signal may have interrupted
                os.write(2, b"\nStopping. Press Ctrl-C again to stop at once.\n")
            return
        if not is_first and not from_watchdog:
            if number != signal.SIGINT or time.monotonic() - self._signalled_at < _SAME_PRESS:
                return
            if not self.requests:
                self.end(_STOPPED)
        self._pending = True
        if not self.shields and _is_importing(frame):
            self.end(_STOPPED)
        self.raise_pending()

    def raise_pending(self) -> None:
        """Raise Interrupted if it is pending and not shielded."""
        if self._pending and not self.shields:
            self._pending = False
            assert self.signal is not None
            raise Interrupted(_STOPPED, self.signal)

    def note_dropped(self, unraisable: Any) -> None:
        """Hook for exceptions that Python cannot raise, such as those within destructors."""
        if unraisable.exc_type is Interrupted:
            self._dropped = True
        else:
            sys.__unraisablehook__(unraisable)

    def watch(self, signals: socket.socket) -> None:
        """Watchdog thread: after the first signal, make sure that the main thread gets it and that the process ends."""
        with signals:  # open as long as signals may arrive
            if signals.recv(1):
                self._enforce_end()

    def _enforce_end(self) -> None:
        since, has_repeated = time.monotonic(), False
        while not self.is_over or self._ends_process:
            time.sleep(_TICK)
            request = next(iter(self.requests[-1:]), None)
            if request and request.grace is None:
                since = time.monotonic()
                continue
            waited = time.monotonic() - since
            late = request is not None and not request.is_noticed and waited > (request.grace or 0)
            if self._dropped or (late and not has_repeated):
                has_repeated, self._dropped, self._from_watchdog = True, False, True
                _signal_main_thread(self.signal or signal.SIGINT)
            if waited > LIMIT:
                self.end(_STOPPED)

    def end(self, message: str) -> None:
        """End the process, if `ends_process`. A normal interpreter exit waits for threads and may take seconds."""
        if not self._ends_process:
            return
        self.is_over = True
        undo_all()  # including what an interrupted clean-up has left
        if threading.current_thread() is threading.main_thread():  # others might wait for the stream's lock
            with suppress(OSError, ValueError):  # the reader may be gone
                sys.stdout.flush()
        if self._announce and message and _can_write(2):
            with suppress(OSError):
                os.write(2, f"{wrapped(f'respodiff: {message}', sys.stderr)}\n".encode())
        os._exit(128 + (self.signal or signal.SIGINT))


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported. C++ code aborts the process if an import that it calls raises."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _can_write(file: int) -> bool:
    """Whether a write would not block."""
    return os.name == "nt" or bool(select.select([], [file], [], 0)[1])


def _signal_main_thread(number: int) -> None:
    if hasattr(signal, "pthread_kill"):  # which also interrupts a blocking system call
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        _thread.interrupt_main(signal.Signals(number))


_current: _Interrupts | None = None


@contextmanager
def _handling_signals(*, ends_process: bool, announce: bool = True) -> Iterator[_Interrupts]:
    """Install handler, watchdog and hook; with `ends_process` they stay until the process ends."""
    global _current
    interrupts = _Interrupts(ends_process, announce)
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    # C code writes to it as soon as a signal arrives, even while the main thread cannot run a handler.
    wakeup = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    hook, sys.unraisablehook = sys.unraisablehook, interrupts.note_dropped
    handlers = {number: signal.signal(number, interrupts.handle) for number in _SIGNALS}
    threading.Thread(target=interrupts.watch, args=(reading,), name="interrupts", daemon=True).start()
    _current = interrupts
    try:
        yield interrupts
    finally:
        interrupts.is_over = True
        if ends_process:
            writing.detach()  # open until the process ends
        else:
            _current = None
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)
            sys.unraisablehook = hook
            writing.close()  # the thread reads the end of file, and ends


def _forget() -> None:
    """In a forked child, which has no watchdog: restore the default handlers."""
    global _current
    if _current is not None:
        _current = None
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
