"""Tables of texts: the same rows for people at a terminal and in Markdown."""

from __future__ import annotations

import pytest
from respodiff.trainer.support.table import Table

TABLE = Table(["", "deviation ratio", "right"], [["base, ours", "0.456 ± 0.1", None], ["[red]*x*", "0.3", "99 %"]])


@pytest.mark.parametrize("columns", [30, 80])
def test_in_a_terminal_no_line_is_wider_than_it(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = TABLE.in_terminal().splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[0].split() == ["deviation", "ratio", "right"] or columns == 30


def test_in_a_terminal_texts_are_themselves(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = TABLE.in_terminal()
    assert "[red]*x*" in shown
    assert "None" not in shown
    assert "\x1b" not in Table(["a"], [["\x1b[2Jgone"]]).in_terminal()


def test_transposed_its_rows_are_columns():
    turned = TABLE.transposed()
    assert list(turned.head) == ["", "base, ours", "[red]*x*"]
    assert [list(row) for row in turned.rows] == [["deviation ratio", "0.456 ± 0.1", "0.3"], ["right", None, "99 %"]]


def test_in_markdown_texts_are_no_markup():
    assert TABLE.in_markdown().splitlines() == [
        "|  | deviation ratio | right |",
        "| --- | --- | --- |",
        "| base, ours | 0.456 ± 0.1 |  |",
        "| &#91;red&#93;&#42;x&#42; | 0.3 | 99 % |",
    ]
