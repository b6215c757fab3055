"""The model card that `respodiff push` writes: complete, and nothing but text whatever the file says."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from adapters import random_contrast, random_gate
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from PIL import Image
from respodiff.respodiff_core.adapter.adapter import Adapter, read, write
from respodiff.trainer.sharing.card import is_untouched
from sharing_commands import REPO, accepted, adapter_file, evaluation, refusal, sha256


def card_of(tmp_path: Path, file: Path, *arguments: object) -> str:
    accepted("push", file, REPO, "--dry-run", "--force", "-o", tmp_path / "look", *arguments)
    return (tmp_path / "look" / "README.md").read_text()


class Page(HTMLParser):
    """A card as a browser shows it: how often each tag occurs, links, the texts of cells, and all of the text."""

    def __init__(self, card: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.links: list[str | None] = []
        self.cells: list[str] = []
        self.text = ""
        self.feed(
            MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(ModelCard(card).text)
        )

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.links += [value for name, value in attributes if name in ("href", "src")]
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        self.text += data.replace("\n", " ")
        if self.cells:
            self.cells[-1] += data.rstrip("\n")


class TestCard:
    def test_it_says_what_the_file_says(self, online, tmp_path):
        text = card_of(tmp_path, adapter_file(tmp_path, author="A. Maker", description="For portraits."))
        assert "| woman | fairness | gender | a woman | a person | 1 | constant |" in text
        assert "| base model | example/base&#64;main |" in text
        assert "| RAM's learning rate | 0.01 |" in text
        assert "| man | 0.0001 |" in text, "what differs between concepts stands by concept"
        assert "512 x 512" in text
        assert "Description by the author: For portraits." in text
        assert "not a filter" in text
        assert f"respodiff pull {REPO}\n" in text
        assert sha256((tmp_path / "gender.safetensors").read_bytes()) in text
        assert "**This file comes without an evaluation.**" in text

    def test_a_contrast_concepts_strengths_and_gate_are_told(self, online, tmp_path):
        concept = replace(
            random_contrast(
                "woman", category="fairness", axis="gender", strength=1.5, guidance=((2.0, 2.0), (7.5, 1.0))
            ),
            gate=random_gate(groups=2),
        )
        path = write(Adapter("sd15", {"woman": concept}, "epsilon"), tmp_path / "gender.safetensors")
        assert "| 1.5 | 3 at CFG 2, 1.5 at CFG 7.5 | yes | contrast |" in card_of(tmp_path, path, "--license", "mit")

    def test_its_front_matter_is_for_the_hub(self, online, tmp_path):
        data = ModelCard(card_of(tmp_path, adapter_file(tmp_path))).data.to_dict()
        assert data == {
            "license": "mit",
            "library_name": "respodiff",
            "pipeline_tag": "text-to-image",
            "tags": ["respodiff", "comfyui", "text-to-image", "stable-diffusion", "fairness"],
            "base_model": ["example/base"],
            "base_model_relation": "adapter",
        }

    def test_a_licence_in_words_is_named_and_not_guessed(self, online, tmp_path):
        text = card_of(tmp_path, adapter_file(tmp_path, license="Ask me: first"))
        assert "\nlicense: other\nlicense_name: ask-me-first\n" in text
        assert "\nAsk me: first\n" in text

    def test_an_evaluation_is_shown_with_intervals_and_plots(self, online, tmp_path):
        file = adapter_file(tmp_path)
        text = card_of(tmp_path, file, "--evaluation", evaluation(tmp_path / "eval", file))
        assert "| figure | unsteered | gender at 0.5 | gender at 1 | meaning |" in text
        assert "| deviation ratio, gender | 0.700 (0.600 to 0.800) | 0.210 (0.100 to 0.320) |" in text
        assert "| 87.5 % (80.0 to 95.0) |" in text
        assert "2 images could not be labelled" in text
        assert "95 % bootstrap interval" in text
        assert "another" not in text.partition("## Evaluation")[2].partition("## Intended")[0].replace(
            "another profile", ""
        )
        shown = re.findall(r"!\[[^\]]+\]\((card/[^)]+)\)", text)
        assert len(shown) == 3, "bars by profession, figures over strength, alignment over strength"
        for name in shown:
            with Image.open(tmp_path / "look" / name) as image:
                assert image.format == "PNG"
                image.verify()

    def test_a_contrast_concept_is_told_from_a_trained_one(self, online, tmp_path):
        concept = random_contrast("old", category="fairness", axis="age", target="an old person", training={"seeds": 2})
        adapter = Adapter("sd15", {"old": concept}, "epsilon", {"modelspec.license": "mit"})
        text = card_of(tmp_path, write(adapter, tmp_path / "old.safetensors"))
        assert "| old | fairness | age | an old person | 1 | contrast |" in text
        assert "Contrast concepts are computed without training" in text
        assert "RAM brings" not in text

    def test_pictures_are_shown_when_asked(self, online, tmp_path):
        file = adapter_file(tmp_path)
        folder = evaluation(tmp_path / "eval", file, images=True)
        assert "card/1-images.png" not in card_of(tmp_path, file, "--evaluation", folder)
        text = card_of(tmp_path, file, "--evaluation", folder, "--images")
        assert "![The same prompts and seeds: unsteered, then gender at 1](card/1-images.png)" in text
        with Image.open(tmp_path / "look" / "card" / "1-images.png") as image:
            assert image.getpixel((image.width // 2, image.height // 2)) != (255, 255, 255)
        unsafe = evaluation(tmp_path / "i2p", file, images=True, protocol="i2p")
        assert "images.png" not in card_of(tmp_path, file, "--evaluation", unsafe, "--images")
        (folder / "images" / "unsteered" / "nurse-000.png").unlink()
        said = refusal("push", file, REPO, "--dry-run", "--evaluation", folder, "--images")
        assert "cannot be shown" in said
        assert "--evaluation" in refusal("push", file, REPO, "--dry-run", "--images")

    def test_figures_of_another_file_are_refused(self, online, tmp_path):
        folder = evaluation(tmp_path / "eval", adapter_file(tmp_path))
        changed = adapter_file(tmp_path, description="trained again")
        assert "did not measure this file" in refusal("push", changed, REPO, "--dry-run", "--evaluation", folder)
        assert "finished evaluation" in refusal("push", changed, REPO, "--dry-run", "--evaluation", tmp_path)

    def test_the_texts_of_a_file_stay_texts(self, online, tmp_path):
        """Metadata is from anywhere: in a card it must be neither markup, HTML, YAML nor control characters."""
        evil = (
            "x |\n\n# Big\n<script>alert(1)</script> [here](javascript:alert(1)) ![i](http://e.x/i.png) `c` **b** "
            "_i_ &lt; ~~s~~ $$m$$ \\(m\\) {{ version }} {% raw %} \x1b[31m\u202ecod\x00\n---\nlicense: mit\n---\n"
        )
        evil_axis = "x | <script>alert(1)</script> [here](javascript:0) **b** {{ v }}"
        adapter = read(adapter_file(tmp_path, title=evil, author=evil, description=evil, license=evil, date=evil))
        concept = adapter.concepts["woman"]
        facts = {"base_model": evil, evil: evil, "nested": {"a": [evil]}, "steps": 1e9, "none": None}
        info = replace(concept.info, target=evil, neutral=evil, negative=evil, axis=evil_axis, training=facts)
        concepts = {"woman": replace(concept, info=info)}
        file = write(replace(adapter, concepts=concepts), tmp_path / "gender.safetensors")
        text = card_of(tmp_path, file)
        assert not [c for c in text if not c.isprintable() and c != "\n"]
        assert is_untouched(text)
        front = ModelCard(text).data.to_dict()
        assert front.keys() == {"license", "license_name", "library_name", "pipeline_tag", "tags"}
        assert front["license"] == "other"
        assert re.fullmatch(r"[a-z0-9.-]+", front["license_name"])

        page, plain = Page(text), Page(card_of(tmp_path, adapter_file(tmp_path)))
        assert set(page.tags) == set(plain.tags)
        assert page.tags["h1"] == 1
        assert page.tags["h2"] == plain.tags["h2"]
        assert page.links == plain.links
        seen = " ".join(evil.split())
        for hidden, shown in {"\x1b": r"\x1b", "\u202e": r"\u202e", "\x00": r"\x00"}.items():
            seen = seen.replace(hidden, shown)
        for place in ("a person", "a woman", "example/base@main"):
            assert place in plain.cells
            assert place not in page.cells
        assert page.cells.count(seen) == 5, "three prompts, the base model, and a setting's name as a value"
        assert page.cells.count(evil_axis) == 1
        assert f"Description by the author: {seen}" in page.text

    def test_it_reads_the_same_each_time(self, online, tmp_path):
        file = adapter_file(tmp_path)
        folder = evaluation(tmp_path / "eval", file)
        texts = {card_of(tmp_path, file, "--evaluation", folder) for _ in range(2)}
        assert len(texts) == 1
