"""`respodiff contrast`: an adapter without training, the same every time, for every command that takes one."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
import torch
from respodiff.respodiff_core.adapter.adapter import peek, read
from respodiff.respodiff_core.adapter.gate import Gate
from respodiff.respodiff_core.adapter.summary import summarise
from respodiff.respodiff_core.learning.contrast_settings import in_context
from respodiff.trainer.base.model import load_base
from respodiff.trainer.evaluation.results import Results
from respodiff.trainer.recipes.contrast_recipe import assemble_contrast
from respodiff.trainer.recipes.strict import parse_toml
from respodiff.trainer.run import contrast as made
from respodiff.trainer.run.unet_evaluations import counting
from respodiff.trainer.toyworld.scenes import HUES, PROFESSIONS, SHAPES
from trainer_runs import RESPODIFF, undated

CONTRAST = [*RESPODIFF, "contrast"]
SHORT = ("--steps", 3, "--seeds", 2, "--parts", 2)
HUE = ("--base", "toyworld", "--preset", "toyworld/hue", *SHORT)


def test_the_file_says_how_it_was_made(trainer):
    done = trainer.run(*HUE, "-o", "hue.safetensors", "--author", "someone", launcher=CONTRAST)
    assert done.returncode == 0, done.stderr
    assert "Wrote hue.safetensors: amber, teal, violet" in done.stdout
    header = peek(trainer.path("hue.safetensors"))
    assert (header.family, header.prediction, header.metadata["modelspec.author"]) == ("toyworld", "epsilon", "someone")
    teal = header.concepts["teal"]
    assert (teal.kind, teal.operation, teal.info.axis, teal.info.target) == ("contrast", "move", "hue", "teal")
    assert list(teal.sites) == list(load_base("toyworld").denoiser.attention_sites)
    assert teal.info.training["contexts"][:2] == ["a {} person", "a photo of a {} nurse"]
    assert (teal.info.training["seeds"], teal.info.training["steps"]) == (2, 3)
    assert len(teal.info.training["base_sha256"]) == 64
    shown = summarise(read(trainer.path("hue.safetensors")))
    assert "teal (fairness, contrast, moves 7 cross-attention layers)" in shown
    assert shown.index("input.3.0") < shown.index("middle.0.0") < shown.index("output.3.0")


def test_it_is_the_same_file_every_time_and_replaces_none(trainer):
    for name in ("a", "b"):
        assert trainer.here(*HUE, "-o", f"{name}.safetensors", launcher=CONTRAST).returncode == 0
    first, second = (undated(trainer.path(f"{name}.safetensors")) for name in ("a", "b"))
    assert first.replace(b"a.safetensors", b"b.safetensors") == second
    done = trainer.here(*HUE, "-o", "a.safetensors", launcher=CONTRAST)
    assert done.returncode == 1
    assert "already exists" in done.stderr
    assert undated(trainer.path("a.safetensors")) == first


def test_it_costs_what_the_dry_run_says(trainer, monkeypatch):
    done = trainer.here(*HUE, "-o", "a.safetensors", "--dry-run", launcher=CONTRAST)
    assert done.returncode == 0, done.stderr
    assert not trainer.path("a.safetensors").exists()
    said = int(done.stdout.split(" UNet evaluations")[0].split()[-1].replace(",", ""))
    recipe = assemble_contrast(
        None,
        top={"base": "toyworld", "output": trainer.path("a.safetensors")},
        preset="toyworld/hue",
        sections={"contrast": {"schedule_steps": 3, "seeds": 2, "parts": 2}, "model": {"device": "cpu"}},
    )
    counted = []

    def loaded(*arguments, **options):
        base = load_as(*arguments, **options)
        counted.append(counting(base.denoiser.unet))
        counted.append(counted[0].__enter__())
        return base

    load_as = made.load_as
    monkeypatch.setattr(made, "load_as", loaded)
    made.contrast(recipe)
    assert counted[1].total == said == recipe.contrast.evaluations


def test_a_recipe_and_flags_make_one(trainer):
    trainer.path("hue.toml").write_text(
        'base = "toyworld"\noutput = "out.safetensors"\npreset = "toyworld/hue"\n'
        '[contrast]\nschedule_steps = 3\nparts = 1\nseeds = 1\ncontexts = ["a {} person"]\n[file]\ndtype = "float16"\n'
    )
    flags = ("--group", "amber: amber", "--group", "teal: teal", "--context", "a {} nurse")
    done = trainer.here("hue.toml", *flags, "--dry-run", launcher=CONTRAST)
    assert done.returncode == 0, done.stderr
    shown = parse_toml(done.stdout)
    assert shown["contrast"]["groups"] == {"amber": "amber", "teal": "teal"}
    assert shown["contrast"]["contexts"] == ["a {} nurse"]
    assert (shown["contrast"]["axis"], shown["contrast"]["seeds"], shown["file"]["dtype"]) == ("hue", 1, "float16")
    assert trainer.here("hue.toml", *flags, launcher=CONTRAST).returncode == 0
    assert list(read(trainer.path("out.safetensors")).concepts) == ["amber", "teal"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "There is no group: choose a --preset"),
        (("--preset", "gendre"), "did you mean gender"),
        (("--group", "woman: a woman"), "ToyWorld does not know 'woman'"),
        (("--preset", "toyworld/hue", "--group", "amber: amber", "--operation", "move"), "there is only one group"),
        (("--preset", "toyworld/hue", "--context", "a person"), "a context has no {}"),
        (("--preset", "toyworld/hue", "--steps", 3, "--parts", 9), "fewer than 9 parts"),
    ],
)
def test_what_cannot_be_contrasted_is_a_sentence(trainer, flags, said):
    done = trainer.here("--base", "toyworld", "-o", "a.safetensors", *flags, launcher=CONTRAST)
    assert done.returncode == 1
    assert said in " ".join(done.stderr.split())
    assert not trainer.path("a.safetensors").exists()


def test_a_group_without_words_is_told_the_form(trainer):
    done = trainer.here(*HUE, "-o", "a.safetensors", "--group", "amber", launcher=CONTRAST)
    assert done.returncode == 2
    assert "'amber' does not have the form NAME:VALUE" in done.stderr


def test_what_it_makes_is_measured_and_calibrated_like_any_adapter(trainer):
    assert trainer.here(*HUE, "-o", "hue.safetensors", launcher=CONTRAST).returncode == 0
    sampling = ("--base", "toyworld", "--sampling-steps", 2, "--batch", 48)
    done = trainer.here(
        "winobias", *sampling, "--adapter", "hue.safetensors", "--images", 15, "-o", "out",
        launcher=[*RESPODIFF, "eval"],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["hue"]["change"] > 0
    done = trainer.here(
        "hue.safetensors", *sampling, "--images", 16, "--concept", "teal", "-o", "less.safetensors",
        launcher=[*RESPODIFF, "calibrate"],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = read(trainer.path("less.safetensors")).concepts
    assert found["amber"].info.strength == 2.75
    before = read(trainer.path("hue.safetensors")).concepts["teal"].tensors()
    assert all(torch.equal(before[name], tensor) for name, tensor in found["teal"].tensors().items())


def test_its_gate_knows_prompts_that_name_a_group_from_those_that_do_not(trainer):
    """Professions and places that no context has: 64 prompts and more of each kind."""
    base = load_base("toyworld")
    professions, places = PROFESSIONS[::2], ("", " in a park", " on a beach", " in an alley", " in a mine")
    prompts = [f"a photo of a {{}}{who}{place}" for who in professions for place in places] + [
        f"a {{}}{who}" for who in professions
    ]
    groups = {"hue": HUES, "shape": SHAPES}
    for axis, own in groups.items():
        name = f"{axis}.safetensors"
        flags = ("--base", "toyworld", "--preset", f"toyworld/{axis}", *SHORT, "-o", name)
        assert trainer.here(*flags, launcher=CONTRAST).returncode == 0
        gates = {concept.gate for concept in read(trainer.path(name)).concepts.values()}
        assert len(gates) == 1, "the groups of an axis have one gate"
        (gate,) = gates

        def opened(words: Sequence[str], gate: Gate = gate) -> list[bool]:
            texts = [in_context(prompt.format("{}"), f"{word} ") for prompt in prompts for word in words]
            assert len(texts) >= 48
            return gate.is_open(base.encode_prompts(texts).context).tolist()

        assert not any(opened(own)), "explicit prompts are left alone"
        (others,) = (words for other, words in groups.items() if other != axis)
        for words in (("",), others):
            held_back = opened(words)
            assert held_back.count(False) <= 0.02 * len(held_back), "neutral prompts are steered"


def test_with_the_gate_explicit_prompts_give_the_images_of_the_unsteered_model(trainer):
    assert trainer.here(*HUE, "-o", "hue.safetensors", launcher=CONTRAST).returncode == 0
    trainer.path("prompts.csv").write_text("prompt,group\na photo of a teal doctor,named\na photo of a doctor,open\n")
    done = trainer.here(
        "prompts", "prompts.csv", "--base", "toyworld", "--sampling-steps", 2, "--adapter", "hue.safetensors", "--gate",
        "--images", 3, "-o", "out", launcher=[*RESPODIFF, "eval"],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    groups = Results.read(trainer.path("out")).variants["hue"].groups
    change = {
        group: figure.value for group, own in groups.items() for name, figure in own.items() if str(name) == "change"
    }
    assert change["named"] == 0
    assert change["open"] > 0
