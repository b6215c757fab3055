"""Every base model that people really have loads as the model it is, or is refused in a sentence that says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from base_variants import CLOSE, FILES, FOLDERS, LOADS, SAME, UNET, VAE, Variant
from respodiff.trainer.base.base_model_error import BaseModelError
from respodiff.trainer.base.model import BaseModel, load_base
from respodiff.trainer.base.spec import HubId, locate
from safetensors.torch import load_file, save_file
from small_bases import PROMPTS, Networks, State
from transformers import CLIPTokenizer

Make = Callable[[str], Path]


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


def below(state: State, prefix: str) -> State:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


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


@pytest.mark.parametrize("name", ["model.sft", "MODEL.SAFETENSORS", "3f9c1d", "модель 😀.safetensors"])
def test_files_by_other_names(sound, tmp_path, name):
    path, _ = sound("sd15")
    (tmp_path / name).symlink_to(path)
    check(tmp_path / name, Variant("sd15", None, SAME), path)


class TestPartsInFilesOfTheirOwn:
    """As ComfyUI's diffusion_models, text_encoders and vae folders hold them."""

    @pytest.fixture(params=["sd15", "sdxl"])
    def parts(self, sound, tmp_path, request) -> tuple[Path, dict[str, Path]]:
        path, networks = sound(request.param)
        state: State = load_file(path)
        saved = {"unet": below(state, UNET), "vae": below(state, VAE)}
        for number, model in enumerate(networks.texts):
            saved[f"text{number}"] = {
                name if name.startswith("text_") else f"text_model.{name}": tensor
                for name, tensor in model.state_dict().items()
            }
        for name, tensors in saved.items():
            save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, tmp_path / name)
        return path, {name: tmp_path / name for name in saved}

    def test_they_are_one_model(self, parts):
        path, files = parts
        texts = [files[name] for name in sorted(files, reverse=True) if name.startswith("text")]  # in any order
        base = load_base(files["unet"], text_encoders=texts, vae=files["vae"])
        right = load_base(path)
        for one, other in zip((*answers(base), pictures(base)), (*answers(right), pictures(right)), strict=True):
            torch.testing.assert_close(one, other)

    def test_a_missing_one_is_asked_for(self, parts):
        path, files = parts
        with pytest.raises(BaseModelError, match=r"UNet without its text encoder.*--text-encoder"):
            load_base(files["unet"])
        with pytest.raises(BaseModelError, match=r"None of vae is a CLIP text encoder of width 768"):
            load_base(files["unet"], text_encoders=[files["vae"]])
        base = load_base(files["unet"], text_encoders=[file for name, file in files.items() if "text" in name])
        with pytest.raises(BaseModelError, match=r"unet has no autoencoder.*--vae"):
            base.require_pictures()
        with pytest.raises(BaseModelError, match=r"There is no file gone"):
            load_base(path, vae="gone")

    def test_folders_have_their_own(self, sound, tmp_path):
        with pytest.raises(BaseModelError, match=r"are for a checkpoint file; m has its own"):
            load_base(sound("sd15")[1].save(tmp_path / "m"), vae=sound("sd15")[0])


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ("https://huggingface.co/owner/name", HubId("owner/name")),
        ("https://huggingface.co/owner/name/", HubId("owner/name")),
        ("https://hf.co/owner/name/tree/v1", HubId("owner/name", "v1")),
        ("https://huggingface.co/owner/name/blob/main/m.safetensors", HubId("owner/name", "main", "m.safetensors")),
        (
            "https://huggingface.co/a/b/resolve/main/x/m.safetensors?download=true",
            HubId("a/b", "main", "x/m.safetensors"),
        ),
    ],
)
def test_web_addresses_name_models_on_the_hub(page, found):
    assert locate(page) == found


def test_a_distilled_model_is_said_to_be_one(sound, tmp_path, caplog):
    path, _ = sound("sd15")
    save_file(
        load_file(path) | {UNET + "time_embed.cond_proj.weight": torch.randn(32, 256)}, tmp_path / "m.safetensors"
    )
    load_base(tmp_path / "m.safetensors")
    assert "m is distilled (LCM)" in caplog.text


def test_what_is_left_out_is_said(sound, tmp_path, caplog):
    path, _ = sound("sd15")
    more = {UNET + f"input_blocks.1.0.leftover{number}.weight": torch.zeros(1) for number in range(5)}
    save_file(load_file(path) | more, tmp_path / "m.safetensors")
    load_base(tmp_path / "m.safetensors")
    assert "The UNet in m.safetensors: 5 tensors are (" in caplog.text
    assert "and 2 others) not part of it; left out, as in ComfyUI." in caplog.text


@pytest.mark.parametrize("name", FOLDERS)
def test_folders(sound, tmp_path, name):
    variant = FOLDERS[name]
    _, parts = sound(variant.kind)
    root = parts.save(tmp_path / "sound")
    changed = parts.save(tmp_path / "m")
    variant.change(changed)
    check(changed, variant, root)
