"""Translations and help pages: every node, every text, in every language."""

from __future__ import annotations

from typing import Any

import pytest
from comfy_hosts import PACK
from node_texts import LANGUAGES, read

HELP = PACK / "web" / "docs"


def keys(texts: dict[str, Any], path: str = "") -> set[str]:
    inner = {key for name, value in texts.items() if isinstance(value, dict) for key in keys(value, f"{path}/{name}")}
    return inner | {f"{path}/{name}" for name in texts}


def spelled(texts: dict[str, Any], path: str = "") -> dict[str, str]:
    lines = {}
    for name, value in texts.items():
        lines |= spelled(value, f"{path}/{name}") if isinstance(value, dict) else {f"{path}/{name}": value}
    return lines


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_of_every_node_is_there(language):
    assert keys(read(language)) == keys(read("en"))
    assert all(spelled(read(language)).values())


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "en"])
def test_explanations_are_translated(language):
    english = spelled(read("en"))
    same = [
        path
        for path, text in spelled(read(language)).items()
        if path.endswith(("tooltip", "description")) and text == english[path]
    ]
    assert same == []


def test_every_node_has_a_help_page_that_says_what_it_cannot_promise():
    assert {page.name for page in HELP.iterdir()} == set(read("en"))
    for page in HELP.iterdir():
        text = (page / "en.md").read_text("utf-8")
        assert "## What it cannot promise" in text
        for name in read("en")[page.name]["inputs"]:
            assert f"**{name}**" in text, f"{page.name} does not explain {name}"
