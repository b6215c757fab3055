"""The command `respodiff` as a person meets it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest
import torch
import typer
from adapters import random_adapter
from PIL import Image
from respodiff.respodiff_core.adapter.adapter import peek, read, write
from respodiff.respodiff_core.steering.fair_groups import FairGroup
from respodiff.trainer import __main__ as entry
from respodiff.trainer.commands.app import app
from respodiff.trainer.commands.report_errors import report_errors
from respodiff.trainer.evaluation.image_folder import ImageFolder
from respodiff.trainer.evaluation.results import FIGURES_FILE
from respodiff.trainer.toyworld import TOYWORLD_FOLDER
from respodiff.trainer.toyworld.demonstration import before_after
from respodiff.trainer.toyworld.prompts import professions
from respodiff.trainer.toyworld.scenes import SHAPES
from sharing_commands import evaluation
from typer.testing import CliRunner


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_info_shows_what_a_file_holds(tmp_path):
    result = run("info", str(write(random_adapter("woman", "man"), tmp_path / "gender.safetensors")))
    assert result.exit_code == 0
    assert "gender.safetensors: Stable Diffusion 1.x, 2 concepts" in result.stdout
    assert "target prompt: a man" in result.stdout


def test_base_shows_what_a_base_model_is():
    result = run("base", "toyworld")
    assert result.exit_code == 0
    weights = TOYWORLD_FOLDER / "unet" / "diffusion_pytorch_model.safetensors"
    assert result.stdout.splitlines() == [
        "toyworld: ToyWorld, epsilon prediction",
        "  UNet: 32 / 64 / 96 channels, F16",
        "  text encoder: CLIP of width 48, 2 layers, 20 tokens",
        "  VAE: yes",
        "  noise schedule: scaled_linear, beta 0.00085 to 0.012 in 1000 timesteps",
        "  native size: 64 x 64 pixels",
        f"  sha256: {hashlib.sha256(weights.read_bytes()).hexdigest()}",
    ]


def test_base_says_why_a_file_is_none(tmp_path):
    write(random_adapter("woman"), tmp_path / "woman.safetensors")
    result = run("base", str(tmp_path / "woman.safetensors"))
    assert result.exit_code == 1
    assert "woman.safetensors is a RespoDiff adapter, not a base model" in result.stderr


def test_a_refusal_is_a_sentence_and_an_exit_code(tmp_path):
    (tmp_path / "unet.pth").write_bytes(b"")
    result = run("info", str(tmp_path / "unet.pth"))
    assert result.exit_code == 1
    assert "respodiff import unet.pth" in result.stderr
    assert "Traceback" not in result.output


def test_merge_and_convert_write_new_files(tmp_path):
    for name in ("a", "b"):
        write(random_adapter(name), tmp_path / f"{name}.safetensors")
    both, half = tmp_path / "both.safetensors", tmp_path / "half.safetensors"
    merged = run("merge", str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors"), "-o", str(both))
    assert (merged.exit_code, list(peek(both).concepts)) == (0, ["a", "b"])
    converted = run("convert", str(both), "-o", str(half), "--dtype", "float16", "--channel")
    assert converted.exit_code == 0
    assert peek(half).concepts["a"].kind == "channel"
    assert half.stat().st_size < both.stat().st_size
    mean = read(both).concepts["a"].ram.tensors[""].mean((1, 2), keepdim=True)
    assert torch.equal(read(half).concepts["a"].ram.tensors[""], mean.half().float())


def test_nothing_is_overwritten_without_being_told(tmp_path):
    path = write(random_adapter("a"), tmp_path / "a.safetensors")
    before = path.read_bytes()
    write(random_adapter("b"), tmp_path / "b.safetensors")
    arguments = ("merge", str(tmp_path / "b.safetensors"), "-o", str(path))
    refused = run(*arguments)
    assert refused.exit_code == 1
    assert "--force" in refused.stderr
    assert path.read_bytes() == before
    assert run(*arguments, "--force").exit_code == 0
    assert list(peek(path).concepts) == ["b"]


def test_import_turns_a_pickle_into_an_adapter(tmp_path):
    weights = torch.randn(1280 * 64, 8, generator=torch.Generator().manual_seed(0))
    torch.save({"controlnet.fc1.weight": weights}, tmp_path / "unet.pth")
    done = run("import", str(tmp_path / "unet.pth"), "-o", str(tmp_path / "black.safetensors"), "--concept", "black")
    assert done.exit_code == 0
    assert list(peek(tmp_path / "black.safetensors").concepts) == ["black"]


def test_without_arguments_it_explains_itself():
    assert "adapters" in run().output
    assert "demo" in run("--help").output


@pytest.mark.parametrize(
    ("module", "unasked"),
    [
        ("commands.app", {"torch", "diffusers", "transformers", "huggingface_hub"}),
        ("recipes.plan", {"diffusers", "transformers", "huggingface_hub"}),
        ("recipes.evaluation_recipe", {"diffusers", "transformers", "huggingface_hub"}),
    ],
)
def test_help_and_typos_do_not_wait_for_libraries(module, unasked):
    code = f"import sys, respodiff.trainer.{module}; print(*{unasked} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    "command",
    [
        ["train", "--base", "nosuch.safetensors", "--preset", "gender", "-o", "a.safetensors"],
        ["contrast", "--base", "nosuch.safetensors", "--preset", "gender", "-o", "a.safetensors"],
        ["eval", "winobias", "--base", "nosuch.safetensors"],
        ["eval", "winobias", "--base", "toyworld", "--adapter", "nosuch.safetensors"],
        ["calibrate", "nosuch.safetensors", "--base", "toyworld", "-o", "a.safetensors"],
        ["ablate", "--base", "nosuch.safetensors"],
        ["reproduce", "gender", "--base", "nosuch.safetensors"],
    ],
)
def test_a_file_that_is_not_there_does_not_wait_for_libraries(command, tmp_path):
    code = (
        "import sys; from respodiff.trainer.commands.app import app\n"
        "try: app(sys.argv[1:])\n"
        "finally: print(*{'diffusers', 'transformers'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert "nosuch.safetensors" in done.stderr
    assert done.stdout.split() == []


def test_without_its_libraries_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"respodiff\[train\]"):
        entry.main()


def test_the_demos_picture_shows_the_same_seeds_before_and_after(tmp_path):
    """Black before, white after; under each shape's name a picture that was steered to it."""
    specs = professions(per_profession=10)
    shapes = {name: FairGroup(name, ()) for name in SHAPES}
    given = [shapes[SHAPES[one.turn]] for one in specs]
    folder = ImageFolder(tmp_path)
    for setting, colour in (("unsteered", "black"), ("shape", "white")):
        folder.write([(setting, one, Image.new("RGB", (64, 64), colour)) for one in specs])
    sheet = np.asarray(before_after(specs, given, folder))
    assert (sheet[:, sheet.shape[1] // 3] == 0).all(axis=-1).any()
    assert (sheet[:, -50] == 255).all(axis=-1).any()


@pytest.mark.parametrize("lacking", ["extended", "variants", "asked"])
def test_a_report_of_figures_that_lack_something_says_so(tmp_path, lacking):
    adapter = write(random_adapter("woman", "man"), tmp_path / "gender.safetensors")
    folder = evaluation(tmp_path / "evaluation", adapter)
    assert run("report", str(folder), "-o", str(tmp_path / "whole.html")).exit_code == 0
    figures = json.loads((folder / FIGURES_FILE).read_text())
    del figures["manifest"][lacking]
    (folder / FIGURES_FILE).write_text(json.dumps(figures))
    done = run("report", str(folder), "-o", str(tmp_path / "report.html"))
    assert done.exit_code == 1
    assert "The figures of evaluation lack something that a report shows" in " ".join(done.output.split())
    assert not (tmp_path / "report.html").exists()


def test_training_explains_itself():
    text = " ".join(run("train", "--help").output.split())
    for told in ("--base", "--preset", "gender/woman", "--dry-run", "--resume", "toyworld", "accelerate launch"):
        assert told in text


def test_a_missing_package_is_a_sentence_and_a_missing_module_of_our_own_a_mistake(capsys):
    with pytest.raises(typer.Exit) as ended, report_errors():
        importlib.import_module("nowhere_to_be_found")
    assert ended.value.exit_code == 1
    assert 'needs nowhere_to_be_found, which is not installed. Run: pip install "respodiff[eval]"' in (
        capsys.readouterr().err
    )
    with pytest.raises(ModuleNotFoundError), report_errors():
        importlib.import_module("respodiff.nowhere")


NO_EXTRAS = """
import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in ("scipy", "matplotlib", "torchvision", "cleanfid", "nudenet", "datasets", "rich"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from respodiff.trainer.__main__ import main
main()
"""


@pytest.mark.parametrize(
    "command",
    [
        ("ablate", "--base", "toyworld"),
        ("calibrate", "a.safetensors", "--base", "toyworld", "-o", "b.safetensors"),
        ("reproduce", "gender"),
        ("eval", "winobias", "--base", "toyworld"),
        ("demo",),
    ],
)
def test_every_command_of_an_extra_says_that_it_is_missing(command, tmp_path):
    write(random_adapter("woman"), tmp_path / "a.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", NO_EXTRAS, *command], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert 'pip install "respodiff[eval]"' in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_it_says_which_version_it_is():
    assert run("--version").stdout == f"respodiff {version('respodiff')}\n"
