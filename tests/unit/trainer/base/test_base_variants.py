"""Every base model that people really have loads as the model it is, or is refused in a sentence that says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from base_variants import CLOSE, FILES, FOLDERS, LOADS, SAME, Variant
from respodiff.trainer.base import diffusers_folder, single_file
from respodiff.trainer.base.base_model_error import BaseModelError
from respodiff.trainer.base.model import BaseModel, load_base
from respodiff.trainer.toyworld import networks
from safetensors.torch import load_file, save_file
from small_bases import PROMPTS, Networks, State, with_few_layers
from transformers import CLIPTokenizer

Make = Callable[[str], Path]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    return networks.write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(autouse=True)
def few_words(monkeypatch: pytest.MonkeyPatch, tokenizer: CLIPTokenizer) -> None:
    for module in (single_file, diffusers_folder):
        monkeypatch.setattr(module, "clip_tokenizer", lambda: tokenizer)
    with_few_layers(monkeypatch)


@pytest.fixture(scope="module")
def sound(tokenizer: CLIPTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Networks]]:
    """The checkpoint of a kind, and its networks."""
    made: dict[str, tuple[Path, Networks]] = {}

    def get(kind: str) -> tuple[Path, Networks]:
        if kind not in made:
            path = tmp_path_factory.mktemp(kind) / f"{kind}.safetensors"
            parts = Networks(kind, tokenizer)
            save_file(parts.checkpoint(), path)
            made[kind] = path, parts
        return made[kind]

    return get


Answers = tuple[torch.Tensor, torch.Tensor]


def answers(base: BaseModel) -> Answers:
    """What it predicts, and what it encodes prompts to."""
    generator = torch.Generator().manual_seed(0)
    condition = base.encode_prompts(PROMPTS)
    z = torch.randn(2, 4, 8, 8, generator=generator)
    return base.denoiser.predict(z, torch.tensor([1, 981]), condition), condition.context


def pictures(base: BaseModel) -> torch.Tensor:
    base.require_pictures()
    return base.decode_latents(torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)))


def check(path: Path, variant: Variant, expected: Path) -> None:
    if variant.answer not in (SAME, LOADS, CLOSE):
        with pytest.raises(BaseModelError, match=variant.answer):
            load_base(path).denoiser.unet.eval()
        return
    # The same size in both: SDXL reads it.
    found, right = (load_base(one, latent_size=(16, 16)) for one in (path, expected))
    for one, other in zip(answers(found), answers(right), strict=True):
        assert one.isfinite().all()
        if variant.answer != LOADS:
            assert (one - other).norm() <= (0.15 if variant.answer == CLOSE else 1e-6) * other.norm()
    if variant.pictures != SAME:
        with pytest.raises(BaseModelError, match=variant.pictures):
            found.require_pictures()
    elif variant.answer == SAME:
        assert (pictures(found) - pictures(right)).abs().max() <= 1e-6


@pytest.mark.parametrize("name", FILES)
def test_checkpoint_files(sound, tmp_path, name):
    variant = FILES[name]
    path, _ = sound(variant.kind)
    state: State = load_file(path)
    variant.change(state)
    changed = tmp_path / f"{name}.safetensors"
    save_file({key: tensor.contiguous().clone() for key, tensor in state.items()}, changed)
    check(changed, variant, path)


@pytest.mark.parametrize("name", FOLDERS)
def test_folders(sound, tmp_path, name):
    variant = FOLDERS[name]
    _, parts = sound(variant.kind)
    root = parts.save(tmp_path / "sound")
    changed = parts.save(tmp_path / "m")
    variant.change(changed)
    check(changed, variant, root)
