"""Text of strangers, made fit to be shown."""

from __future__ import annotations

import pytest
from adapters import random_adapter, random_concept
from respodiff.respodiff_core.adapter.adapter import Adapter
from respodiff.respodiff_core.adapter.concept import ConceptInfo, ModuleConcept
from respodiff.respodiff_core.adapter.families import family_title
from respodiff.respodiff_core.adapter.summary import summarise
from respodiff.respodiff_core.errors import AdapterFileError, RespoDiffError
from respodiff.respodiff_core.plain_text import plain, quoted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a photo of a woman", "a photo of a woman"),
        ("une poupée, 人の写真\u3000絵, 🧑🏽\u200d⚕️", "une poupée, 人の写真\u3000絵, 🧑🏽\u200d⚕️"),
        ("\x1b[2Jgone\x07", "\\x1b[2Jgone\\x07"),
        ("good\r\n[ERROR] bad\u2028worse", "good [ERROR] bad worse"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("nul\0, lone \ud800", "nul\\x00, lone \\ud800"),
        ("<b>bold</b>", "<b>bold</b>"),
    ],
)
def test_what_shows_stays_and_what_hides_becomes_visible(text, shown):
    assert plain(text) == shown
    assert plain(shown) == shown


def test_it_ends_where_it_would_fill_the_screen():
    assert plain("x" * 10_000_000, 100) == "x" * 99 + "…"
    assert len(quoted("x" * 10_000_000)) == 80
    assert quoted({"a": "\x1b"}) == "{'a': '\\x1b'}"


def test_errors_are_one_line_and_safe_to_print():
    error = AdapterFileError("evil\x1b[2J\n[ERROR] a line of its own" + "x" * 1_000_000)
    assert str(error).startswith("evil\\x1b[2J [ERROR] a line of its own")
    assert len(str(error)) == 4000


def test_errors_of_several_lines_say_so():
    assert str(RespoDiffError("two\nlines\x07", lines=True)) == "two\nlines\\x07"


def test_families_nobody_knows_stand_for_themselves_as_far_as_they_show():
    assert family_title("pixart") == "pixart"
    assert family_title("\x1b[2J" + "x" * 1000) == "\\x1b[2J" + "x" * 72 + "…"


class TestSummary:
    def test_of_hostile_metadata_has_no_more_lines_and_hides_nothing(self):
        evil = "\x1b[2J\nRAM: a line of its own\u202e" + "x" * 1_000_000
        concept = random_concept("woman")
        info = ConceptInfo("woman", "other", evil, evil, evil, training={evil: evil})
        harmless = ConceptInfo("woman", "other", "a", "b", "c", training={"d": "e"})

        def lines(info: ConceptInfo, value: str) -> list[str]:
            concepts = {"woman": ModuleConcept(info, concept.ram, concept.sam)}
            metadata = {"modelspec.title": value, "modelspec.author": value}
            return summarise(Adapter(value, concepts, value, metadata, (value,), value)).split("\n")

        assert len(lines(info, evil)) == len(lines(harmless, "sd15"))
        assert all(line.isprintable() and len(line) <= 1000 for line in lines(info, evil))

    def test_of_very_many_concepts_says_how_many_more_there_are(self):
        text = summarise(random_adapter(*(f"concept {number}" for number in range(130)), kind="channel"))
        assert "130 concepts" in text
        assert text.endswith("\n\nand 30 concepts more")
