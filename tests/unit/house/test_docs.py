"""README and docs/: every link leads somewhere, every picture is there, every command and node is the real one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from comfy_hosts import PACK
from node_reference import PAGE, limits
from node_texts import read
from respodiff.trainer.commands.app import app
from respodiff.trainer.recipes.strict import parse_toml

PAGES = sorted([PACK / "README.md", *(PACK / "docs").glob("*.md")])
_LINK = re.compile(r"\]\(<?([^)\s>]+)>?\)")
REPOSITORY = parse_toml((PACK / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"]


def called(page: Path) -> str:
    return str(page.relative_to(PACK))


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page: small letters, hyphens for spaces, no other signs."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    return [link for link in _LINK.findall(page.read_text("utf-8")) if not link.startswith(("http://", "https://"))]


@pytest.mark.parametrize("page", PAGES, ids=called)
def test_every_link_and_picture_is_there(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link}: {target.name} has no such heading"


def test_every_page_can_be_reached_from_the_index():
    index = PACK / "docs" / "README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    assert {page for page in PAGES if page.parent == index.parent} - {index} <= linked


@pytest.mark.parametrize("page", PAGES, ids=called)
def test_commands_name_the_repository_that_the_package_does(page):
    addresses = re.findall(r"(?:git\+|git clone )(\S+?)(?:\.git)?[\"`\s]", page.read_text("utf-8"))
    assert set(addresses) <= {REPOSITORY}


def code(page: Path) -> list[str]:
    """Indented lines without their comments, and what stands between backticks."""
    text = page.read_text("utf-8")
    lines = [line.partition(" # ")[0].strip() for line in re.findall(r"^    (\S.*)$", text, re.M)]
    return lines + [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


@pytest.mark.parametrize("page", PAGES, ids=called)
def test_every_respodiff_command_is_one_with_its_flags(page):
    commands = typer.main.get_command(app).commands
    shown = [line for line in code(page) if re.match("respodiff [a-z]", line) and "..." not in line]
    for line in shown:
        name, *arguments = shlex.split(line.partition(" | ")[0])[1:]
        assert name in commands, line
        if arguments and "--help" not in arguments:  # without any only the command is meant
            commands[name].make_context(name, arguments)


@pytest.mark.parametrize("page", PAGES, ids=called)
def test_every_make_target_and_every_path_is_there(page):
    targets = re.findall(r"^([a-z]+):", (PACK / "Makefile").read_text("utf-8"), re.M)
    for line in code(page):
        assert set(re.findall(r"\bmake ([a-z]+)$", line)) <= set(targets), line
        for path in re.findall(r"(?<![\w/])(?:tests|benchmarks|trainer|nodes|respodiff_core|web|docs)/[\w/.-]+", line):
            assert (PACK / path).exists(), f"{path} is not there"


def test_the_node_reference_has_every_text_and_every_limit():
    """After a change: PYTHONPATH=tests python tools/node_reference.py. Types and ranges are held to a real ComfyUI."""
    page = PAGE.read_text("utf-8")
    for node, texts in read("en").items():
        _, _, section = page.partition(f"## {texts['display_name']}\n")
        section = section.partition("\n## ")[0]
        assert texts["description"] in section
        for text in (*texts["inputs"].values(), *texts["outputs"].values()):
            assert f"| **{text['name']}** |" in section
            assert text["tooltip"] in section
        assert all(limit in section for limit in limits(node))


def test_the_readme_names_every_node():
    readme = PACK.joinpath("README.md").read_text("utf-8")
    for texts in read("en").values():
        assert f"**{texts['display_name']}**" in readme
