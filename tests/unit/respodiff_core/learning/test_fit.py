"""A concept is trained on any denoiser by a program that imports the core alone."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import fields

import pytest
import torch
from respodiff.respodiff_core.adapter.adapter import read
from respodiff.respodiff_core.learning.presets import PRESETS, preset, presets_of
from respodiff.respodiff_core.learning.settings import ConceptSettings, TrainingSettings

# The whole program, as docs/contributing.md shows it.
PROGRAM = """
    import sys
    import torch
    from respodiff.respodiff_core.adapter import Adapter, write
    from respodiff.respodiff_core.learning.denoiser import Condition
    from respodiff.respodiff_core.learning.fit import Fit
    from respodiff.respodiff_core.learning.presets import preset

    class Denoiser:  # a foreign network, split at its bottleneck
        down, up, text = torch.nn.Linear(4, 6), torch.nn.Linear(6, 4), torch.nn.Linear(3, 6)

        def encode(self, z, t, condition):
            h = self.down(z.movedim(1, -1)).movedim(-1, 1) + self.text(condition.context.mean(1))[..., None, None]
            return h, t

        def decode(self, h, carry, condition):
            return self.up(h.movedim(1, -1)).movedim(-1, 1)

        def take(self, carry, rows):
            return carry[rows]

    def encode(texts):
        return Condition(torch.stack([torch.full((2, 3), float(len(text))) for text in texts]))

    torch.manual_seed(0)
    alphas = torch.linspace(0.999, 0.01, 1000)
    fit = Fit.of(Denoiser(), alphas, preset("gender/woman", steps=60, ram_rate=0.3), encode, latent=(4, 4))
    losses = [float(step.losses.ram_loss) for step in fit]
    woman = fit.finished(base_model="mine")
    write(Adapter(None, {"woman": woman}, "epsilon"), sys.argv[1])
    print(losses[0] > 2 * losses[-1], any(name.startswith("respodiff.trainer") for name in sys.modules))
"""


def test_thirty_lines_train_a_foreign_network(tmp_path):
    path = tmp_path / "woman.safetensors"
    program = textwrap.dedent(PROGRAM)
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
    assert done.stdout == "True False\n", done.stderr
    concept = read(path).concepts["woman"]
    assert concept.ram.tensors[""].shape == (6, 4, 4)
    assert concept.ram.tensors[""].abs().max() > 0
    facts = concept.info.training
    assert (facts["base_model"], facts["steps"], facts["batch"], facts["seed"]) == ("mine", 60, 4, 0)


def test_a_concept_with_a_negative_prompt_alone_is_for_safety():
    woman, violence = preset("gender/woman"), preset("safety/violence")
    assert (woman.category, woman.guidance) == ("fairness", 4.0)
    assert (violence.category, violence.guidance) == ("safety", 12.0)
    assert preset("gender/woman", guidance=2.5).guidance == 2.5


def test_the_pool_follows_the_batch():
    assert [TrainingSettings(batch=batch).pool for batch in (1, 3, 4, 5, 16)] == [16, 15, 16, 15, 16]
    with pytest.raises(ValueError, match="multiple of the batch"):
        TrainingSettings(batch=4, pool=6)


def test_all_presets_are_concepts_by_group():
    assert {preset(name).name for name in PRESETS} >= {"woman", "violence"}
    assert presets_of("race") == ["race/white", "race/black", "race/asian"]
    with pytest.raises(ValueError, match="did you mean gender/woman"):
        preset("gender/womam")


@pytest.mark.parametrize("settings", [ConceptSettings, TrainingSettings])
def test_every_setting_says_what_it_means(settings):
    for field in fields(settings):
        assert field.metadata["description"].endswith("."), field.name


def test_settings_load_no_torch():
    script = "import sys, respodiff.respodiff_core.learning.presets; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_training_is_resumed_exactly():
    namespace: dict = {}
    exec(textwrap.dedent(PROGRAM).split("torch.manual_seed(0)")[0].replace("import sys\n", ""), namespace)
    torch.manual_seed(1)
    denoiser, encode, fit_of = namespace["Denoiser"](), namespace["encode"], namespace["Fit"].of
    alphas = torch.linspace(0.999, 0.01, 1000)

    def begin(steps: int):
        return fit_of(denoiser, alphas, preset("gender/man", steps=steps), encode, latent=(4, 4))

    whole, first, second = begin(6), begin(3), begin(6)
    list(whole)
    list(first)
    second.resume(first.number, first.learner.state(), first.trajectories.state())
    list(second)
    assert torch.equal(whole.finished().ram.tensors[""], second.finished().ram.tensors[""])
    assert torch.equal(whole.finished().sam.tensors[""], second.finished().sam.tensors[""])
