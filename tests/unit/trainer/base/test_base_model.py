"""Base models: a checkpoint file and a diffusers folder are one model; the rest is refused in plain words."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from respodiff.respodiff_core.errors import RespoDiffError
from respodiff.trainer.base import hub_snapshot as hub
from respodiff.trainer.base import single_file
from respodiff.trainer.base.base_model_error import BaseModelError
from respodiff.trainer.base.diffusers_folder import Folder
from respodiff.trainer.base.model import load_base
from respodiff.trainer.base.text import clip_tokenizer
from respodiff.trainer.toyworld import networks
from safetensors.torch import load_file, save_file
from small_bases import PROMPTS, UNET, UNETS, Networks, State
from transformers import CLIPTokenizer


@pytest.fixture(scope="module")
def make(tokenizer: CLIPTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Networks, Path]]:
    """The networks of a kind and their checkpoint file."""
    made: dict[str, tuple[Networks, Path]] = {}

    def get(kind: str) -> tuple[Networks, Path]:
        if kind not in made:
            parts = Networks(kind, tokenizer)
            path = tmp_path_factory.mktemp(kind) / f"{kind}.safetensors"
            save_file(parts.checkpoint(), path)
            made[kind] = parts, path
        return made[kind]

    return get


def with_tensors(path: Path, out: Path, more: State, metadata: dict[str, str] | None = None) -> Path:
    """The checkpoint at `path` with some tensors added or changed."""
    save_file(load_file(path) | more, out, metadata)
    return out


class TestCheckpointFiles:
    @pytest.mark.parametrize("kind", UNETS)
    def test_the_prediction_is_that_of_the_networks_they_were_made_from(self, make, kind):
        parts, path = make(kind)
        base = load_base(path)
        z, t = torch.randn(2, 4, 9, 12), torch.tensor([1, 981])
        condition = base.encode_prompts(PROMPTS)
        assert (base.denoiser.predict(z, t, condition) - parts.predict(z, t, base)).abs().max() <= 1e-5

    def test_stable_diffusion_1_reads_the_last_layer_after_the_norm(self, make):
        parts, path = make("sd15")
        condition = load_base(path).encode_prompts(PROMPTS)
        with torch.no_grad():
            expected = parts.texts[0](parts.ids(parts.tokenizer.eos_token_id)).last_hidden_state
        torch.testing.assert_close(condition.context, expected)
        assert condition.pooled is None
        assert condition.time_ids is None

    def test_stable_diffusion_2_reads_the_last_layer_but_one_after_the_norm(self, make):
        parts, path = make("sd2")
        (model,) = parts.texts
        with torch.no_grad():
            states = model(parts.ids(0), output_hidden_states=True).hidden_states[-2]
            expected = getattr(model, "text_model", model).final_layer_norm(states)
        torch.testing.assert_close(load_base(path).encode_prompts(PROMPTS).context, expected)

    def test_sdxl_reads_the_last_layers_but_one_of_two_encoders_and_one_vector(self, make):
        parts, path = make("sdxl")
        condition = load_base(path, latent_size=(10, 12)).encode_prompts(PROMPTS)
        first, second = parts.texts
        with torch.no_grad():
            one = first(parts.ids(parts.tokenizer.eos_token_id), output_hidden_states=True)
            two = second(parts.ids(0), output_hidden_states=True)
        torch.testing.assert_close(condition.context, torch.cat([one.hidden_states[-2], two.hidden_states[-2]], -1))
        torch.testing.assert_close(condition.pooled, two.text_embeds)
        assert condition.time_ids.tolist() == [[80, 96, 0, 0, 80, 96]] * 2

    @pytest.mark.parametrize("kind", ["sd15", "sdxl"])
    def test_latents_become_pictures(self, make, kind):
        parts, path = make(kind)
        z = torch.randn(2, 4, 6, 8)
        images = load_base(path).decode_latents(z)
        with torch.no_grad():
            expected = (parts.vae.decode(z / parts.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
        assert images.shape == (2, 3, 12, 16)
        assert (images - expected).abs().max() <= 1e-5

    @pytest.mark.parametrize(
        ("kind", "family", "latent"), [("sd15", "sd15", 64), ("sd2", "sd2", 64), ("vega", "sdxl", 128)]
    )
    def test_family_and_sizes_are_told_from_the_tensors(self, make, kind, family, latent):
        _, path = make(kind)
        base = load_base(path)
        assert (base.name, base.family, base.prediction) == (kind, family, "epsilon")
        assert base.latent_size == (latent, latent)
        assert base.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        h, _ = base.denoiser.encode(torch.randn(1, 4, 9, 12), torch.tensor([1]), base.encode_prompts(["a"]))
        assert base.h_shape(9, 12) == tuple(h.shape[1:])

    def test_the_noise_schedule_is_stable_diffusions(self, make):
        alphas = load_base(make("sd15")[1]).alphas_cumprod
        assert (alphas.shape, alphas.dtype) == ((1000,), torch.float32)
        torch.testing.assert_close(alphas, networks.scheduler().alphas_cumprod)

    def test_a_tensor_v_pred_says_that_v_is_predicted(self, make, tmp_path):
        path = with_tensors(make("sdxl")[1], tmp_path / "v.safetensors", {"v_pred": torch.zeros(0)})
        base = load_base(path)
        assert (base.prediction, base.denoiser.prediction) == ("v", "v")
        assert load_base(path, prediction="epsilon").prediction == "epsilon"

    def test_a_tensor_ztsnr_says_that_no_signal_is_left_at_the_end(self, make, tmp_path):
        marks = {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
        alphas = load_base(with_tensors(make("sdxl")[1], tmp_path / "z.safetensors", marks)).alphas_cumprod
        assert 0 < alphas[-1] < 1e-7

    @pytest.mark.parametrize(
        ("metadata", "prediction"),
        [
            ({"modelspec.prediction_type": "v"}, "v"),
            (
                {"modelspec.prediction_type": "epsilon", "modelspec.architecture": "stable-diffusion-v2-768-v"},
                "epsilon",
            ),
            ({"modelspec.architecture": "stable-diffusion-v2-768-v/lora"}, "v"),
            ({"modelspec.architecture": "stable-diffusion-v2-512"}, "epsilon"),
            ({}, "epsilon"),
        ],
    )
    def test_stable_diffusion_2_says_in_its_metadata_what_it_predicts(self, make, tmp_path, metadata, prediction):
        base = load_base(with_tensors(make("sd2")[1], tmp_path / "sd2.safetensors", {}, metadata))
        assert (base.prediction, base.latent_size[0]) == (prediction, 96 if prediction == "v" else 64)

    @pytest.mark.parametrize(("spread", "prediction"), [(0.05, "epsilon"), (0.12, "v")])
    def test_without_metadata_a_norm_tells_what_stable_diffusion_2_predicts(
        self, make, tmp_path, monkeypatch, spread, prediction
    ):
        name = UNET + "output_blocks.3.1.transformer_blocks.0.norm1.bias"
        monkeypatch.setattr(single_file, "_V_BIASES", name.removeprefix(UNET))
        bias = {name: torch.linspace(-1, 1, 64) * spread * 3**0.5}
        assert load_base(with_tensors(make("sd2")[1], tmp_path / "sd2.safetensors", bias)).prediction == prediction


class TestFolders:
    @pytest.mark.parametrize("kind", UNETS)
    def test_a_folder_is_the_same_model_as_the_file(self, make, tmp_path, kind):
        parts, path = make(kind)
        folder = parts.save(tmp_path / "model")
        one, other = load_base(folder, latent_size=(8, 8)), load_base(path, latent_size=(8, 8))
        assert (one.name, one.family, one.prediction) == ("model", other.family, other.prediction)
        z, t = torch.randn(2, 4, 8, 8), torch.tensor([1, 981])
        ours, theirs = one.encode_prompts(PROMPTS), other.encode_prompts(PROMPTS)
        torch.testing.assert_close(ours.context, theirs.context)
        torch.testing.assert_close(one.denoiser.predict(z, t, ours), other.denoiser.predict(z, t, theirs))
        torch.testing.assert_close(one.decode_latents(z), other.decode_latents(z))

    def test_scheduler_and_unet_say_prediction_schedule_and_size(self, make, tmp_path):
        folder = make("sdxl")[0].save(tmp_path / "m", "v_prediction", rescale_betas_zero_snr=True)
        base = load_base(folder)
        assert (base.prediction, base.latent_size) == ("v", (16, 16))
        assert 0 < base.alphas_cumprod[-1] < 1e-7
        weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
        assert base.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()

    def test_half_precision_weights_are_enough(self, make, tmp_path):
        folder = make("sd15")[0].save(tmp_path / "m")
        for component in ("unet", "vae", "text_encoder"):
            for file in (folder / component).glob("*.safetensors"):
                file.rename(file.with_suffix(".fp16.safetensors"))
        base = load_base(folder, dtype=torch.bfloat16)
        assert base.denoiser.unet.dtype == torch.bfloat16
        assert base.encode_prompts(PROMPTS).context.dtype == torch.float32
        assert base.decode_latents(torch.zeros(1, 4, 8, 8)).dtype == torch.float32

    def test_an_exclamation_mark_that_pads_is_still_read_in_a_prompt(self, make, tmp_path):
        folder = make("sd15")[0].save(tmp_path / "m")
        shutil.rmtree(folder / "tokenizer")
        networks.write_tokenizer(folder / "tokenizer")
        file = folder / "tokenizer" / "vocab.json"
        words = json.loads(file.read_text())
        file.write_text(json.dumps(words | {"!": len(words), "!</w>": len(words) + 1}))
        (folder / "tokenizer" / "tokenizer_config.json").write_text('{"pad_token": "!"}')
        ids = Folder(folder, "m").tokenizer()("!")["input_ids"]
        assert ids[1:-1] == [len(words) + 1]

    def test_a_text_encoder_is_never_random_where_its_weights_have_other_names(self, make, tmp_path):
        folder = make("sd15")[0].save(tmp_path / "m")
        file = folder / "text_encoder" / "model.safetensors"
        renamed = {name.replace("final_layer_norm", "last_layer_norm"): t for name, t in load_file(file).items()}
        save_file(renamed, file, {"format": "pt"})
        with pytest.raises(
            BaseModelError, match=r"text_encoder in m is incomplete.* final_layer_norm\.bias, .* are missing"
        ):
            load_base(folder)

    def test_text_encoders_come_back_after_they_were_released(self, make, tmp_path):
        base = load_base(make("sd15")[0].save(tmp_path / "m"))
        before = base.encode_prompts(PROMPTS).context
        base.release_text_encoders()
        assert torch.equal(base.encode_prompts(PROMPTS).context, before)


class TestTheVocabulary:
    def test_prompts_become_the_numbers_that_clip_was_trained_with(self):
        tokens = clip_tokenizer()
        assert len(tokens) == 49408
        assert tokens("A photo of  a cat!")["input_ids"] == [49406, 320, 1125, 539, 320, 2368, 256, 49407]
        assert tokens("")["input_ids"] == [49406, 49407]

    def test_where_it_is_missing_the_package_to_install_is_named(self, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
        with pytest.raises(BaseModelError, match="pip install open-clip-torch"):
            clip_tokenizer()


class TestTheHub:
    @pytest.fixture
    def remote(self, make, tmp_path, monkeypatch) -> Path:
        """A model on the Hub, and what of it was downloaded, in `here`."""
        remote = make("sd15")[0].save(tmp_path / "remote")

        def download(_repo: str, revision: str | None, allow_patterns: list[str]) -> str:
            assert revision == "main"
            names = [str(path.relative_to(remote)) for path in remote.rglob("*") if path.is_file()]
            for name in filter_repo_objects(names, allow_patterns=allow_patterns):
                (tmp_path / "here" / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(remote / name, tmp_path / "here" / name)
            return str(tmp_path / "here")

        monkeypatch.setattr(hub, "snapshot_download", download)
        return remote

    def test_of_two_precisions_the_smaller_is_downloaded_and_nothing_else(self, remote, tmp_path):
        weights = remote / "unet" / "diffusion_pytorch_model.safetensors"
        shutil.copy(weights, weights.with_suffix(".fp16.safetensors"))
        shutil.copy(weights, weights.with_suffix(".non_ema.safetensors"))
        (remote / "unet" / "diffusion_pytorch_model.bin").touch()
        assert load_base("owner/name@main").name == "owner/name@main"
        assert [path.name for path in (tmp_path / "here" / "unet").glob("*model*")] == [
            "diffusion_pytorch_model.fp16.safetensors"
        ]
        assert (tmp_path / "here" / "vae" / weights.name).is_file()

    def test_without_network_the_message_says_what_was_tried(self, tmp_path, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(
            BaseModelError, match=r"owner/name at revision v1 is not a local folder and could not .*network"
        ):
            load_base("owner/name@v1")


FIRST = "input_blocks.0.0.weight"
REFUSED = {
    "lora": ({"lora_unet_x.lora_down.weight": (1, 1)}, {}, "is a LoRA.*Use a complete checkpoint"),
    "peft": ({"unet.x.lora_A.weight": (1, 1)}, {}, "is a LoRA"),
    "adapter": ({"woman.ram": (1, 1)}, {"respodiff.format": "1"}, "is a RespoDiff adapter.*Name the base model"),
    "vae": ({"decoder.conv_in.weight": (1, 1), "quant_conv.weight": (1, 1)}, {}, "only an autoencoder .VAE."),
    "unet_only": ({FIRST: (8, 4, 3, 3)}, {}, "UNet without its text encoder.*complete checkpoint"),
    "diffusers_unet": ({"down_blocks.0.resnets.0.conv1.weight": (1, 1)}, {}, "UNet without its text encoder"),
    "sd3": ({UNET + "joint_blocks.0.x_block.attn.proj.weight": (1, 1)}, {}, "is a transformer .SD3, Flux"),
    "flux": ({"double_blocks.0.img_attn.proj.weight": (1, 1)}, {}, "is a transformer .SD3, Flux"),
    "edm": ({UNET + FIRST: (8, 4, 3, 3), "edm_mean": (1,)}, {}, "another noise schedule"),
    "something": ({"weight": (1, 1)}, {}, "is not a Stable Diffusion checkpoint"),
    "half_a_unet": ({UNET + FIRST: (8, 4, 3, 3)}, {}, "UNet in half_a_unet.safetensors is not built like"),
}


class TestRefusals:
    @pytest.mark.parametrize("kind", REFUSED)
    def test_files_that_are_no_base_model_are_named_for_what_they_are(self, tmp_path, kind):
        shapes, metadata, message = REFUSED[kind]
        path = tmp_path / f"{kind}.safetensors"
        save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, path, metadata)
        with pytest.raises(BaseModelError, match=message):
            load_base(path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({FIRST: (32, 9, 3, 3)}, "inpainting model"),
            ({FIRST: (32, 8, 3, 3)}, "unknown family: its UNet reads 8 latent channels"),
            ({"input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (32, 1280)}, "SDXL refiner"),
            ({"input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (32, 640)}, "text states of width 640"),
            ({"label_emb.0.0.weight": (128, 2816)}, "added conditions text_time"),
            ({"time_embed.0.weight": (1, 1)}, "The UNet in m.safetensors is not built like"),
        ],
        ids=["inpainting", "pix2pix", "refiner", "width", "unclip", "shape"],
    )
    def test_other_unets_are_refused(self, make, tmp_path, change, message):
        more = {UNET + name: torch.zeros(shape) for name, shape in change.items()}
        with pytest.raises(BaseModelError, match=message):
            load_base(with_tensors(make("sd15")[1], tmp_path / "m.safetensors", more)).denoiser.unet.eval()

    def test_a_unet_without_a_middle_block_is_refused(self, make, tmp_path):
        state = {name: value for name, value in load_file(make("vega")[1]).items() if ".middle_block." not in name}
        save_file(state, tmp_path / "m.safetensors")
        with pytest.raises(BaseModelError, match="without a middle block"):
            load_base(tmp_path / "m.safetensors")

    def test_a_checkpoint_without_text_encoder_is_refused_and_without_vae_only_when_pictures_are_asked_for(
        self, make, tmp_path
    ):
        state = load_file(make("sd15")[1])
        textless = {name: value for name, value in state.items() if not name.startswith("cond_stage_model.")}
        save_file(textless, tmp_path / "textless.safetensors")
        with pytest.raises(BaseModelError, match="UNet without its text encoder"):
            load_base(tmp_path / "textless.safetensors")
        blind = {name: value for name, value in state.items() if not name.startswith("first_stage_model.")}
        save_file(blind, tmp_path / "blind.safetensors")
        base = load_base(tmp_path / "blind.safetensors")
        with pytest.raises(BaseModelError, match="no autoencoder"):
            base.decode_latents(torch.zeros(1, 4, 8, 8))

    def test_a_file_that_is_cut_short_is_to_be_downloaded_again(self, make, tmp_path):
        path = tmp_path / "cut.safetensors"
        path.write_bytes(make("sd15")[1].read_bytes()[:-1000])
        with pytest.raises(BaseModelError, match=r"cut short.*Download it again"):
            load_base(path)

    @pytest.mark.parametrize("name", ["model.ckpt", "model.pth", "model.bin"])
    def test_pickles_are_never_opened(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(BaseModelError, match=r"pickles .* can run code.*Use the model's .safetensors version"):
            load_base(tmp_path / name)

    @pytest.mark.parametrize("spec", ["missing.safetensors", "models/missing.safetensors", "a/b/c", "toy world"])
    def test_a_name_that_is_nothing_is_answered_with_what_it_may_be(self, spec):
        with pytest.raises(BaseModelError, match=r"no file or folder .*\.safetensors checkpoint.*owner/name.*toyworld"):
            load_base(spec)

    def test_folders_must_be_complete_pipelines_with_a_unet(self, make, tmp_path):
        (tmp_path / "flux" / "transformer").mkdir(parents=True)
        with pytest.raises(BaseModelError, match="contains a transformer"):
            load_base(tmp_path / "flux")
        folder = make("sd15")[0].save(tmp_path / "m")
        with pytest.raises(BaseModelError, match=r"contains no UNet.*model_index.json"):
            load_base(folder / "vae")
        weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
        weights.rename(weights.with_suffix(".bin"))
        with pytest.raises(BaseModelError, match=r"unet in safetensors .only diffusion_pytorch_model\.bin, a pickle"):
            load_base(folder)
        weights.with_suffix(".bin").rename(weights)
        shutil.rmtree(folder / "scheduler")
        with pytest.raises(BaseModelError, match=r"scheduler_config.json cannot be read"):
            load_base(folder)
        shutil.rmtree(folder / "text_encoder")
        with pytest.raises(BaseModelError, match="has no text_encoder"):
            load_base(folder)

    def test_messages_stand_on_their_own(self):
        assert issubclass(BaseModelError, RespoDiffError)
        assert BaseModelError.__module__ == "respodiff"
