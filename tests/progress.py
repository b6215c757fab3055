"""A pytest plugin for long runs that somebody watches: a line when a file's tests begin, and for each failure at once.

PYTHONPATH=tests python -m pytest -q -p progress tests/unit
"""

from __future__ import annotations

import time
from collections import Counter

import pytest


class Progress:
    """Tells how far the session is; the dots of passed tests are left out."""

    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self._reporter = reporter
        self._began = time.monotonic()
        self._sizes: Counter[str] = Counter()
        self._file: str | None = None
        self._done = 0

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._sizes = Counter(_file_of(item.nodeid) for item in session.items)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if (file := _file_of(nodeid)) != self._file:
            self._file = file
            share = self._done / max(self._sizes.total(), 1)
            self._say(f"{share:4.0%} {self._clock()}  {file} ({self._sizes[file]})")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._done += report.when == "teardown"
        if report.failed:
            self._say(f"     {self._clock()}  FAILED {report.nodeid}", red=True)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str]:
        """As pytest counts them, without a letter for each."""
        kind = report.outcome
        if report.when != "call":
            kind = {"passed": "", "failed": "error"}.get(kind, kind)
        return kind, "", kind.upper()

    def _clock(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        return f"{minutes:2}:{seconds:02}"

    def _say(self, line: str, **markup: bool) -> None:
        self._reporter.ensure_newline()
        self._reporter.write_line(line, **markup)


def _file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


@pytest.hookimpl(trylast=True)  # the reporter comes first
def pytest_configure(config: pytest.Config) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        config.pluginmanager.register(Progress(reporter), "progress-of-files")
