"""Devices by PyTorch's names, refused where this machine does not have them."""

from __future__ import annotations

import pytest
from respodiff.respodiff_core.errors import RespoDiffError
from respodiff.trainer.base.devices import accelerator_on, device_named
from respodiff.trainer.commands.app import app
from respodiff.trainer.recipes.strict import RecipeError
from respodiff.trainer.recipes.training_recipe import Recipe
from typer.testing import CliRunner


def test_a_device_that_is_not_there_is_refused_with_those_that_are():
    assert device_named("cpu").type == "cpu"
    for refused in (device_named, accelerator_on):
        with pytest.raises(RespoDiffError, match=r"no device cuda:99: choose one of auto, cpu"):
            refused("cuda:99")


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:1", "xpu:0", "mps"])
def test_names_are_pytorchs(name):
    values = {"base": "toyworld", "output": "a.safetensors", "concepts": [{"preset": "toyworld/square"}]}
    assert Recipe.of({**values, "training": {"device": name}}).training.device == name
    with pytest.raises(RecipeError, match=r"training\.device"):
        Recipe.of({**values, "training": {"device": f"{name}!"}})


def test_a_dry_run_refuses_it_too(tmp_path):
    output = tmp_path / "a.safetensors"
    command = ["train", "--base", "toyworld", "--preset", "toyworld/square", "--dry-run", "--device", "cuda:99"]
    done = CliRunner().invoke(app, [*command, "-o", str(output)])
    assert done.exit_code == 1
    assert "no device cuda:99" in done.output
