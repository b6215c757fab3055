"""Progress: a bar in a terminal, lines in a file."""

from __future__ import annotations

import io
import sys

import pytest
from respodiff.trainer.support import progress_bars as bars


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def always(monkeypatch):
    """Every step is worth a line."""
    monkeypatch.setattr(bars, "_SECONDS", 0.0)


def printed(monkeypatch, stream: io.StringIO, total: int = 3, **settings) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    with bars.progress_bar(total, "round", "step", **settings) as bar:
        for number in range(settings.get("start", 0), total):
            bar.update()
            bar.set_postfix({"RAM": number})
    return stream.getvalue()


def test_a_file_gets_whole_lines_and_no_bar(monkeypatch, always):
    lines = printed(monkeypatch, io.StringIO())
    assert "\r" not in lines
    first, *_, last = lines.splitlines()
    assert first.startswith("round: 1 of 3 steps, 00:00, 00:00 left")
    assert last.startswith("round: 3 of 3 steps, 00:00")
    assert "left" not in last


def test_a_file_gets_few_lines_and_always_the_last(monkeypatch):
    assert printed(monkeypatch, io.StringIO(), total=500).splitlines()[0].startswith("round: 500 of 500 steps")
    assert len(printed(monkeypatch, io.StringIO(), total=500).splitlines()) <= 2


def test_it_goes_on_where_it_was(monkeypatch, always):
    assert printed(monkeypatch, io.StringIO(), total=9, start=7).startswith("round: 8 of 9 steps")


def test_a_terminal_gets_a_bar(monkeypatch):
    drawn = printed(monkeypatch, Terminal())
    assert "round: 100%|" in drawn
    assert "3/3" in drawn
    assert "RAM=2" in drawn


def test_nothing_where_nothing_is_to_be_shown(monkeypatch, always):
    assert printed(monkeypatch, io.StringIO(), shown=False) == ""
