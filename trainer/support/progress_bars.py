"""Progress bars in a terminal, or occasional log lines in a file."""

from __future__ import annotations

import io
import shutil
import sys
from typing import Any

from tqdm import tqdm

_SECONDS = 10.0  # between two lines
_WIDE = 110  # columns
_WITHOUT_BAR = "{desc}: {n_fmt}/{total_fmt}, {remaining} left{postfix}"


def progress_bar(
    total: int,
    what: str,
    unit: str,
    *,
    start: int = 0,
    shown: bool = True,
    leave: bool = True,
    long_postfix: bool = False,
) -> Any:
    """A tqdm bar on stderr that begins at `start`; without `leave` it is removed at the end. With `long_postfix`, only
    the texts are shown in a narrow terminal.
    """
    settings = {"total": total, "desc": what, "unit": unit, "initial": start, "disable": not shown, "leave": leave}
    if sys.stderr.isatty():
        narrow = long_postfix and shutil.get_terminal_size().columns < _WIDE
        return tqdm(**settings, dynamic_ncols=True, bar_format=_WITHOUT_BAR if narrow else None)
    return _Lines(**settings, mininterval=_SECONDS, maxinterval=_SECONDS, file=io.StringIO())


class _Lines(tqdm):
    """The content of a bar as log lines: one every `_SECONDS`, and one at the end."""

    def __init__(self, **settings: Any) -> None:
        self._printed: tuple[float, int | float] | None = None  # seconds and count at the last line
        super().__init__(**settings)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        now = self.format_dict["elapsed"]
        is_over = self.n == self.total
        if msg is not None or self.n == self.initial or (self._printed and self._printed[1] == self.n):
            return
        if not is_over and now - (self._printed[0] if self._printed else 0.0) < _SECONDS:
            return
        self._printed = now, self.n
        left = f", {self.format_interval(now / (self.n - self.initial) * (self.total - self.n))} left"
        postfix = f", {self.postfix}" if self.postfix else ""
        spent = self.format_interval(now)
        print(
            f"{self.desc}: {self.n} of {self.total} {self.unit}s, {spent}{'' if is_over else left}{postfix}",
            file=sys.stderr,
            flush=True,
        )
