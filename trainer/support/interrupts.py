"""Ctrl-C and SIGTERM: a command ends within two seconds, wherever it is, and leaves nothing half-written.

The first signal raises Interrupted in the main thread, as Ctrl-C raises KeyboardInterrupt in any Python program; work
that is better ended at a certain place (`stop_requests`) is given a moment to come there first. That alone would not
do: Python drops an exception raised within a destructor, a library may catch it, a call or another thread may go on for
minutes. So a thread watches: it raises a dropped exception again, and after LIMIT seconds it undoes what is unfinished
and ends the process.
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

GRACE = 0.8  # seconds that a step or a batch under way has to come to its end
LIMIT = 1.7  # seconds after which the process is ended
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SAME_PRESS = 0.3  # seconds: a launcher passes on what the terminal has already sent to every process
_TICK = 0.02  # seconds between two looks of the watching thread, once a signal has come
_SAID = "Stopped; what was saved before is kept."


class Interrupted(BaseException):
    """SIGINT or SIGTERM asked to stop. Like KeyboardInterrupt it is no Exception, which anything may catch."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = number

    @property
    def exit_code(self) -> int:
        """The shell's convention for that signal: 130 or 143."""
        return 128 + self.signal


@contextmanager
def stopping_says(message: str) -> Iterator[None]:
    """What Interrupted tells the person, where it comes out of the block."""
    try:
        yield
    except Interrupted as stop:
        raise Interrupted(message, stop.signal) from None


class StopRequest:
    """What a loop looks at that ends at a place of its choice."""

    def __init__(self, grace: float | None, says: bool) -> None:
        self.grace = grace
        self.says = says
        self.signal: int | None = None
        self.is_noticed = False

    def requested(self) -> int:
        """The signal that asked to stop, or 0. Who is told of one ends now."""
        self.is_noticed = self.signal is not None
        return self.signal or 0


@contextmanager
def stop_requests(says: bool = True, grace: float | None = GRACE) -> Iterator[StopRequest]:
    """While the block runs, a signal is first of all a request to come to an end.

    Where nobody has noticed it after `grace` seconds, and at a second Ctrl-C, Interrupted is raised. With None there is
    as much time as it takes. `says` is whether this process tells the person at the screen.
    """
    with nullcontext(_current) if _current else _listening(ends_process=False) as interrupts:
        request = StopRequest(grace, says)
        interrupts.requests.append(request)
        try:
            yield request
        finally:
            interrupts.requests.remove(request)


@contextmanager
def shielded() -> Iterator[None]:
    """Put Interrupted off until the block's end: for some renames that belong together, and for calls in which an
    exception would abort the process. Where the block takes too long, the process is ended all the same.
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
def prompt_end(says: bool) -> Iterator[None]:
    """Around a whole command, in the main thread: once a signal has come, the process ends soon and by its exit code.

    `says` is whether this process tells the person at the screen.
    """
    with _listening(ends_process=True, says=says) as interrupts:
        try:
            yield
        except BaseException as end:
            if interrupts.signal is None:
                raise
            is_done = isinstance(end, SystemExit) and not end.code
            interrupts.end("" if is_done else str(end) if isinstance(end, Interrupted) else _SAID)


class _Interrupts:
    """The handler of both signals, and the thread that sees to it that the process ends."""

    def __init__(self, ends_process: bool, says: bool) -> None:
        self.signal: int | None = None
        self.requests: list[StopRequest] = []
        self.shields = 0
        self.is_over = False
        self._ends_process = ends_process
        self._says = says
        self._asked_at = 0.0
        self._again = False  # the signal under way was sent by the watching thread
        self._dropped = False
        self._pending = False

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Signal handler."""
        again, self._again = self._again, False
        is_first = self.signal is None
        if is_first:
            self.signal, self._asked_at = number, time.monotonic()
            for request in self.requests:
                request.signal = number
        if self.is_over:
            self.end("")
        if is_first and self.requests and not again:
            if self.requests[-1].says:  # not through a stream, which the signal may have interrupted
                os.write(2, b"\nStopping. Ctrl-C again stops at once.\n")
            return
        if not is_first and not again:
            if number != signal.SIGINT or time.monotonic() - self._asked_at < _SAME_PRESS:
                return
            if not self.requests:
                self.end(_SAID)
        self._pending = True
        self.raise_pending()

    def raise_pending(self) -> None:
        """Raise Interrupted if it is due and nothing shields from it."""
        if self._pending and not self.shields:
            self._pending = False
            assert self.signal is not None
            raise Interrupted(_SAID, self.signal)

    def note_dropped(self, unraisable: Any) -> None:
        """Python's hook for an exception that nobody can be given."""
        if unraisable.exc_type is Interrupted:
            self._dropped = True
        else:
            sys.__unraisablehook__(unraisable)

    def watch(self, signals: socket.socket) -> None:
        """Thread: from the first signal on, see to it that the main thread hears of it and that the process ends."""
        with signals:  # open as long as signals may come
            if signals.recv(1):
                self._see_to_the_end()

    def _see_to_the_end(self) -> None:
        since, has_insisted = time.monotonic(), False
        while not self.is_over or self._ends_process:
            time.sleep(_TICK)
            request = next(iter(self.requests[-1:]), None)
            if request and request.grace is None:
                since = time.monotonic()
                continue
            waited = time.monotonic() - since
            late = request is not None and not request.is_noticed and waited > (request.grace or 0)
            if self._dropped or (late and not has_insisted):
                has_insisted, self._dropped, self._again = True, False, True
                _tell_main_thread(self.signal or signal.SIGINT)
            if waited > LIMIT:
                self.end(_SAID)

    def end(self, message: str) -> None:
        """End the process, if that is ours to do: the interpreter's own way waits for threads and may take seconds."""
        if not self._ends_process:
            return
        self.is_over = True
        undo_all()  # also what an interrupt within a clean-up has left
        if threading.current_thread() is threading.main_thread():  # any other might wait for its lock
            with suppress(OSError, ValueError):  # nobody may read it any more
                sys.stdout.flush()
        if self._says and message and _can_write(2):
            with suppress(OSError):
                os.write(2, f"{wrapped(f'respodiff: {message}', sys.stderr)}\n".encode())
        os._exit(128 + (self.signal or signal.SIGINT))


def _can_write(file: int) -> bool:
    """Whether whoever reads it still takes something."""
    return os.name == "nt" or bool(select.select([], [file], [], 0)[1])


def _tell_main_thread(number: int) -> None:
    if hasattr(signal, "pthread_kill"):  # which also ends a system call that waits
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        _thread.interrupt_main(signal.Signals(number))


_current: _Interrupts | None = None


@contextmanager
def _listening(*, ends_process: bool, says: bool = True) -> Iterator[_Interrupts]:
    """Install handler, thread and hook; a process that ends keeps them to its last moment."""
    global _current
    interrupts = _Interrupts(ends_process, says)
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    # C code writes to it as soon as a signal comes, however far the main thread is from running a handler.
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
            writing.detach()  # open as long as the process lives
        else:
            _current = None
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)
            sys.unraisablehook = hook
            writing.close()  # the thread reads the end, and ends


def _forget() -> None:
    """In a forked child: it has no such thread, and its signals are not its parent's."""
    global _current
    if _current is not None:
        _current = None
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
