"""Base models as people have them: files and folders in other layouts, and what they are answered.

Each changes a sound small model (tests/small_bases.py). SAME: it loads, and is the model it was made of.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint, convert_open_clip_checkpoint
from safetensors.torch import load_file, save_file
from small_bases import State

UNET = "model.diffusion_model."
L, G, H = "cond_stage_model.transformer.", "conditioner.embedders.1.model.", "cond_stage_model.model."
VAE = "first_stage_model."
SAME = "the same"
LOADS = "loads"  # it is another model than the sound one
CLOSE = "close"  # as close as fp8 is
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3438167534\n"
UNET_FILE = "unet/diffusion_pytorch_model.safetensors"
VAE_FILE = "vae/diffusion_pytorch_model.safetensors"
TEXT_FILE = "text_encoder/model.safetensors"


@dataclass(frozen=True)
class Variant:
    """A change of a sound model, and the answer: SAME, LOADS, CLOSE, or a pattern of what is said. `pictures` is the
    answer to decoding, if it is another.
    """

    kind: str
    change: Callable[[Any], Any]
    answer: str
    pictures: str = SAME


FILES: dict[str, Variant] = {}
FOLDERS: dict[str, Variant] = {}


def file(kind: str, answer: str = SAME, **more: Any) -> Callable[[Callable[[State], None]], None]:
    def add(change: Callable[[State], None]) -> None:
        FILES[change.__name__] = Variant(kind, change, answer, **more)

    return add


def folder(kind: str, answer: str = SAME, **more: Any) -> Callable[[Callable[[Path], None]], None]:
    def add(change: Callable[[Path], None]) -> None:
        FOLDERS[change.__name__] = Variant(kind, change, answer, **more)

    return add


def as_transformers(state: State) -> State:
    """A text encoder in OpenCLIP's naming, by transformers' names."""
    model = SimpleNamespace(config=SimpleNamespace(hidden_size=state["positional_embedding"].shape[1]))
    return convert_open_clip_checkpoint(model, state, prefix="")


def drop(state: State, *prefixes: str) -> None:
    for name in [name for name in state if name.startswith(prefixes)]:
        del state[name]


def cast(state: State, dtype: torch.dtype, prefix: str = "", least: int = 0) -> None:
    for name, tensor in state.items():
        if name.startswith(prefix) and tensor.is_floating_point() and tensor.ndim >= least:
            state[name] = tensor.to(dtype)


# Checkpoint files.


@file("sd15")
def ema_and_leftovers_of_training(state: State) -> None:
    copied = {name: value for name, value in state.items() if name.startswith(UNET)}
    state |= {"model_ema." + name.removeprefix("model.").replace(".", ""): value for name, value in copied.items()}
    state |= {"model_ema.num_updates": torch.tensor(5, dtype=torch.int32), "betas": torch.zeros(1000)}


@file("sd15", LOADS)
def bf16(state: State) -> None:
    cast(state, torch.bfloat16)


@file("sd15")
def fp64(state: State) -> None:
    cast(state, torch.float64)


@file("sd15", CLOSE)
def fp8_without_scales(state: State) -> None:
    cast(state, torch.float8_e4m3fn, UNET, least=2)


def scaled(state: State, marks: Callable[[str, torch.Tensor], Mapping[str, torch.Tensor]]) -> None:
    for name in [n for n in state if n.startswith(UNET) and n.endswith(".weight") and "emb" not in n]:
        if state[name].ndim == 2:
            weight = state[name].float()
            scale = weight.abs().max() / 448
            state[name] = (weight / scale).to(torch.float8_e4m3fn)
            state |= marks(name.removesuffix(".weight"), scale)


def scaled_as_before(state: State) -> None:
    scaled(state, lambda layer, scale: {f"{layer}.scale_weight": scale, f"{layer}.scale_input": torch.tensor(1.0)})
    state[UNET + "scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)


@file("sdxl", CLOSE)
def fp8_with_scales_as_comfyui_wrote_before(state: State) -> None:
    scaled_as_before(state)


def quantised(state: State, kind: str) -> None:
    told = torch.tensor(list(json.dumps({"format": kind}).encode()), dtype=torch.uint8)
    scaled(state, lambda layer, scale: {f"{layer}.weight_scale": scale, f"{layer}.comfy_quant": told.clone()})


@file("sdxl", CLOSE)
def fp8_with_scales_as_comfyui_writes_now(state: State) -> None:
    quantised(state, "float8_e4m3fn")


@file("sdxl", r"quantised as nvfp4, which only ComfyUI reads.*fp16, bf16 or fp8")
def nvfp4(state: State) -> None:
    quantised(state, "nvfp4")


@file("sd15")
def integer_position_ids(state: State) -> None:
    state[L + "text_model.embeddings.position_ids"] = torch.arange(20)[None]


@file("sd15")
def broken_position_ids(state: State) -> None:
    state[L + "text_model.embeddings.position_ids"] = torch.arange(20)[None].half() + 0.3


@file("sd15")
def nai_names(state: State) -> None:
    for name in [name for name in state if name.startswith(L + "text_model.")]:
        state[name.replace(".text_model.", ".")] = state.pop(name)


@file("sd2")
def sd2_made_of_a_folder_without_the_last_layer(state: State) -> None:
    drop(state, H + "transformer.resblocks.2.")


@file("sdxl")
def sdxl_projection_in_hugging_faces_name(state: State) -> None:
    state[G + "text_projection.weight"] = state.pop(G + "text_projection").T.contiguous()


@file("sdxl")
def sdxl_second_text_encoder_in_transformers_names(state: State) -> None:
    named = as_transformers({name.removeprefix(G): state.pop(name) for name in list(state) if name.startswith(G)})
    state |= {G + (name if name.startswith("text_") else f"text_model.{name}"): value for name, value in named.items()}


@file("sdxl", r"width 1280 in .* has no projection")
def sdxl_without_projection(state: State) -> None:
    del state[G + "text_projection"]


@file("sdxl", LOADS)
def sdxl_long_clip(state: State) -> None:
    name = "conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight"
    state[name] = torch.cat([state[name], torch.randn(30, 768) * 0.01])


@file("sd15", LOADS)
def sd15_long_clip(state: State) -> None:
    name = L + "text_model.embeddings.position_embedding.weight"
    state[name] = torch.cat([state[name], torch.randn(30, 768) * 0.01])


@file("sd15", "UNet without its text encoder")
def text_encoder_stripped_but_for_position_ids(state: State) -> None:
    drop(state, "cond_stage_model.")
    state[L + "text_model.embeddings.position_ids"] = torch.arange(77)[None]


@file("sdxl", "UNet without its text encoder")
def clip_g_stripped_but_for_logit_scale(state: State) -> None:
    drop(state, "conditioner.embedders.1.")
    state[G + "logit_scale"] = torch.tensor(4.6)


@file("sd15")
def ip_adapter_keys(state: State) -> None:
    state[UNET + "input_blocks.1.1.transformer_blocks.0.attn2.processor.to_k_ip.weight"] = torch.zeros(32, 768)


@file("sd15")
def unknown_unet_keys(state: State) -> None:
    state[UNET + "input_blocks.1.0.some_leftover.weight"] = torch.zeros(3)


@file("sd15")
def lora_keys(state: State) -> None:
    state["lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight"] = torch.zeros(4, 768)


@file("sd15")
def control_keys(state: State) -> None:
    state["control_model.input_blocks.0.0.weight"] = torch.zeros(32, 4, 3, 3)


@file("sd15")
def vae_attention_as_matrices(state: State) -> None:
    for name, tensor in state.items():
        if name.startswith(VAE) and ".attn_1." in name and tensor.ndim == 4:
            state[name] = tensor[..., 0, 0].contiguous()


@file("sd15")
def vae_in_diffusers_names(state: State) -> None:
    original = {name: state.pop(name) for name in list(state) if name.startswith(VAE)}
    levels = 1 + max(int(name.split(".")[3]) for name in original if name.startswith(VAE + "decoder.up."))
    blocks = {"down_block_types": [""] * levels, "up_block_types": [""] * levels}
    state |= {VAE + name: value for name, value in convert_ldm_vae_checkpoint(original, blocks).items()}


@file("sd15")
def vae_decoder_alone(state: State) -> None:
    drop(state, VAE + "encoder.", VAE + "quant_conv")


@file("sd15", pictures="has no autoencoder")
def vae_missing(state: State) -> None:
    drop(state, VAE)


@file("sd15")
def vae_with_keys_of_its_training(state: State) -> None:
    state[VAE + "loss.logvar"] = torch.zeros(())
    state[VAE + "loss.perceptual_loss.lin0.model.1.weight"] = torch.zeros(1, 64, 1, 1)


@file("sdxl")
def vae_below_another_prefix(state: State) -> None:
    for name in [name for name in state if name.startswith(VAE)]:
        state["vae." + name.removeprefix(VAE)] = state.pop(name)


@file("sd15")
def distilled_with_a_guidance_input(state: State) -> None:
    state[UNET + "time_embed.cond_proj.weight"] = torch.randn(32, 256)


@file("sd15", r"middle_block.0.in_layers.2.weight in .* has NaN or infinite numbers")
def nan_in_one_weight(state: State) -> None:
    name = UNET + "middle_block.0.in_layers.2.weight"
    state[name] = state[name].clone()
    state[name].view(-1)[7] = float("nan")


@file("sd15", pictures=r"decoder.conv_in.weight in .* has NaN or infinite numbers")
def nan_in_the_vae(state: State) -> None:
    state[VAE + "decoder.conv_in.weight"] = torch.full_like(state[VAE + "decoder.conv_in.weight"], float("inf"))


@file("sd15")
def numbers_and_empty_tensors(state: State) -> None:
    state |= {"cond_stage_model.logit_scale": torch.tensor(1.0), "empty": torch.zeros(0)}


@file("sd15", r"The UNet in .* is incomplete: of its \d+ tensors, mid_block.resnets.0.conv1.bias is missing")
def a_missing_unet_tensor(state: State) -> None:
    del state[UNET + "middle_block.0.in_layers.2.bias"]


@file("sd15", r"text encoder of width 768 in .* is incomplete: .*encoder.layers.1.mlp.fc1.bias is missing")
def a_missing_text_tensor(state: State) -> None:
    del state[L + "text_model.encoder.layers.1.mlp.fc1.bias"]


@file("sd15", pictures=r"autoencoder in .* is incomplete: .*decoder.conv_in.bias is missing")
def a_missing_vae_tensor(state: State) -> None:
    del state[VAE + "decoder.conv_in.bias"]


@file("sd15", "is not a Stable Diffusion checkpoint")
def everything_below_a_wrapper(state: State) -> None:
    for name in list(state):
        state["state_dict." + name] = state.pop(name)


# Folders.


def edit(path: Path, change: Callable[[State], Any], metadata: dict[str, str] | None = None) -> None:
    state = load_file(path)
    change(state)
    save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, path, metadata)


def tell(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@folder("sd15")
def files_without_metadata(root: Path) -> None:
    for name in (UNET_FILE, VAE_FILE, TEXT_FILE):
        edit(root / name, lambda state: None)


def with_text_model(state: State) -> None:
    for name in list(state):
        if not name.startswith("text_model."):
            state["text_model." + name] = state.pop(name)


@folder("sd15")
def text_encoder_in_the_names_of_transformers_4(root: Path) -> None:
    edit(root / TEXT_FILE, with_text_model)
    edit(root / TEXT_FILE, lambda state: state.update({"text_model.embeddings.position_ids": torch.arange(20)[None]}))


@folder("sd15")
def text_encoder_in_the_names_of_transformers_5(root: Path) -> None:
    def change(state: State) -> None:
        for name in list(state):
            state[name.removeprefix("text_model.")] = state.pop(name)

    edit(root / TEXT_FILE, change)


def only_variant(name: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / UNET_FILE).rename(root / f"unet/diffusion_pytorch_model.{name}.safetensors")

    return change


for _name in ("bf16", "non_ema", "ema", "fp16"):
    FOLDERS[f"unet_as_{_name}_only"] = Variant("sd15", only_variant(_name), SAME)


@folder("sd15")
def two_precisions_and_a_pickle(root: Path) -> None:
    shutil.copy(root / UNET_FILE, root / "unet/diffusion_pytorch_model.fp16.safetensors")
    (root / "unet/diffusion_pytorch_model.bin").write_bytes(b"x")


def in_shards(root: Path, pattern: str) -> list[Path]:
    path = root / UNET_FILE
    state = load_file(path)
    names = sorted(state)
    path.unlink()
    files = [root / "unet" / pattern.format(number) for number in (1, 2)]
    for shard, part in zip(files, (names[::2], names[1::2]), strict=True):
        save_file({name: state[name] for name in part}, shard)
    return files


@folder("sd15")
def unet_in_shards(root: Path) -> None:
    in_shards(root, "diffusion_pytorch_model-{:05}-of-00002.safetensors")


@folder("sd15")
def unet_in_fp16_shards(root: Path) -> None:
    in_shards(root, "diffusion_pytorch_model.fp16-{:05}-of-00002.safetensors")


@folder("sd15")
def unet_in_fp16_shards_in_the_older_names(root: Path) -> None:
    in_shards(root, "diffusion_pytorch_model-{:05}-of-00002.fp16.safetensors")


@folder("sd15", r"of the 2 files of its unet, number 2 is missing")
def a_missing_shard(root: Path) -> None:
    in_shards(root, "diffusion_pytorch_model-{:05}-of-00002.safetensors")[1].unlink()


@folder("sd15", r"The UNet in .* is incomplete: .*mid_block.resnets.0.conv1.weight is missing")
def folder_with_a_missing_unet_tensor(root: Path) -> None:
    edit(root / UNET_FILE, lambda state: state.pop("mid_block.resnets.0.conv1.weight"))


@folder("sd15", r"The UNet in .* is incomplete: of its \d+ tensors, .* and \d+ others are missing")
def unet_in_other_names(root: Path) -> None:
    def change(state: State) -> None:
        for name in list(state):
            state["module." + name] = state.pop(name)

    edit(root / UNET_FILE, change)


@folder("sd15")
def folder_with_another_unet_tensor(root: Path) -> None:
    edit(root / UNET_FILE, lambda state: state.update({"extra.weight": torch.zeros(3)}))


@folder("sd15", r"The UNet in .* is incomplete: .*attn1.to_q.weight")
def unet_wrapped_by_peft(root: Path) -> None:
    def change(state: State) -> None:
        for name in [name for name in state if ".attn1.to_q.weight" in name]:
            state[name.replace("to_q.weight", "to_q.base_layer.weight")] = state.pop(name)

    edit(root / UNET_FILE, change)


@folder("sd15", r"cannot be read .*cut short.*Download it again")
def unet_cut_short(root: Path) -> None:
    whole = (root / UNET_FILE).read_bytes()
    (root / UNET_FILE).write_bytes(whole[:-5000])


for _part, _path in {"unet": UNET_FILE, "text_encoder": TEXT_FILE, "tokenizer": "tokenizer/tokenizer.json"}.items():
    FOLDERS[f"{_part}_is_a_git_lfs_pointer"] = Variant(
        "sd15", lambda root, path=_path: (root / path).write_text(LFS), r"is a Git LFS pointer.*git lfs pull"
    )


@folder("sd15", r"The UNet in .* is not built like .*in its weights, and .* by its config")
def unet_of_another_width_than_its_config(root: Path) -> None:
    tell(root / "unet/config.json", block_out_channels=[32, 96])


@folder("sd15", r"mid_block.resnets.0.conv1.weight in .* has NaN")
def nan_in_a_folders_unet(root: Path) -> None:
    edit(root / UNET_FILE, lambda state: state["mid_block.resnets.0.conv1.weight"].view(-1)[3:4].fill_(float("nan")))


@folder("sd15")
def vae_attention_in_diffusers_older_names(root: Path) -> None:
    def change(state: State) -> None:
        older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        for name in [name for name in state if ".attentions.0." in name]:
            changed = name
            for new, old in older.items():
                changed = changed.replace(new, old)
            state[changed] = state.pop(name)

    edit(root / VAE_FILE, change)


@folder("sd15", pictures=r"autoencoder in .* is incomplete: .*decoder.conv_in.weight is missing")
def folder_with_a_missing_vae_tensor(root: Path) -> None:
    edit(root / VAE_FILE, lambda state: state.pop("decoder.conv_in.weight"))


@folder("sd15", pictures="has no autoencoder")
def vae_folder_missing(root: Path) -> None:
    shutil.rmtree(root / "vae")


@folder("sd15")
def tokenizer_missing(root: Path) -> None:
    shutil.rmtree(root / "tokenizer")


@folder("sd15")
def tokenizer_empty(root: Path) -> None:
    for one in (root / "tokenizer").iterdir():
        one.unlink()


@folder("sd15")
def tokenizer_in_one_file(root: Path) -> None:
    for one in (root / "tokenizer").iterdir():
        if one.name not in ("tokenizer.json", "tokenizer_config.json"):
            one.unlink()


NOISE = r"predicts neither epsilon nor v on Stable Diffusion's noise schedule"
SCHEDULER = "scheduler/scheduler_config.json"


@folder("sd15", NOISE + r".*FlowMatchEulerDiscreteScheduler with flow matching")
def scheduler_for_flow_matching(root: Path) -> None:
    (root / SCHEDULER).write_text(json.dumps({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}))


@folder("sd15", NOISE + r".*UniPCMultistepScheduler with flow matching")
def scheduler_with_flow_sigmas(root: Path) -> None:
    tell(root / SCHEDULER, _class_name="UniPCMultistepScheduler", use_flow_sigmas=True)


for _kind in ("sample", "flow_prediction"):
    FOLDERS[f"scheduler_of_{_kind}"] = Variant(
        "sd15",
        lambda root, kind=_kind: tell(root / SCHEDULER, prediction_type=kind),
        NOISE + f".*with {_kind} prediction",
    )


@folder("sd15", "The noise schedule of .* cannot be used .*laplace")
def scheduler_with_an_unknown_beta_schedule(root: Path) -> None:
    tell(root / SCHEDULER, beta_schedule="laplace")


@folder("sd15", "The noise schedule of .* cannot be used")
def scheduler_of_falling_noise(root: Path) -> None:
    tell(root / SCHEDULER, trained_betas=[-0.5] * 1000)


@folder("sd15", r"noise schedule of .* has 500 timesteps; Stable Diffusion's UNets know 1000")
def scheduler_of_500_timesteps(root: Path) -> None:
    tell(root / SCHEDULER, num_train_timesteps=500)


@folder("sd15", r"its UNet has act_fn 'gelu', not 'silu'")
def unet_with_another_activation(root: Path) -> None:
    tell(root / "unet/config.json", act_fn="gelu")


@folder("sd15", r"The UNet in .* is not built like")
def unet_with_groups_that_do_not_run(root: Path) -> None:
    tell(root / "unet/config.json", norm_num_groups=-1)


@folder("sd15", pictures=r"autoencoder in .*config.json has scaling_factor nan")
def vae_without_a_scale(root: Path) -> None:
    tell(root / "vae/config.json", scaling_factor=float("nan"))


@folder("sd15")
def scheduler_with_nulls(root: Path) -> None:
    tell(root / SCHEDULER, prediction_type=None, trained_betas=None)


for _config in ("scheduler/scheduler_config.json", "unet/config.json"):
    FOLDERS[f"{_config.partition('/')[0]}_config_is_a_list"] = Variant(
        "sd15", lambda root, path=_config: (root / path).write_text("[]"), f"{_config} is not a JSON object"
    )


for _class in ("UNet3DConditionModel", "UNetMotionModel", "UNet2DModel"):
    FOLDERS[f"a_{_class}"] = Variant(
        "sd15", lambda root, kind=_class: tell(root / "unet/config.json", _class_name=kind), f"its UNet is a {_class}"
    )


@folder("sd15", "its UNet has no single width of text states")
def unet_without_cross_attention(root: Path) -> None:
    tell(root / "unet/config.json", cross_attention_dim=None)


@folder("sd15", r"its UNet has gated attention .GLIGEN.")
def gligen(root: Path) -> None:
    tell(root / "unet/config.json", attention_type="gated")


@folder("sd15")
def distilled_folder(root: Path) -> None:
    tell(root / "unet/config.json", time_cond_proj_dim=256)
    edit(root / UNET_FILE, lambda state: state.update({"time_embedding.cond_proj.weight": torch.randn(32, 256)}))


@folder("sdxl", "has no text_encoder_2")
def sdxl_without_its_second_text_encoder(root: Path) -> None:
    shutil.rmtree(root / "text_encoder_2")


@folder("sdxl", r"text_encoder_2 in safetensors .only model.bin, a pickle")
def sdxl_with_a_pickle_as_text_encoder(root: Path) -> None:
    (root / "text_encoder_2/model.safetensors").rename(root / "text_encoder_2/model.bin")


@folder("sdxl", "text_encoder_2 in .* has no projection")
def folder_without_projection(root: Path) -> None:
    edit(root / "text_encoder_2/model.safetensors", lambda state: state.pop("text_projection.weight"))


@folder("sd15", r"text_encoder in .* is not CLIP, but xlm-roberta")
def altdiffusion(root: Path) -> None:
    tell(root / "text_encoder/config.json", model_type="xlm-roberta")


@folder("sd15", r"text_encoder in .* is incomplete: .*final_layer_norm.bias is missing")
def folder_with_a_missing_text_tensor(root: Path) -> None:
    edit(root / TEXT_FILE, lambda state: state.pop(next(n for n in state if n.endswith("final_layer_norm.bias"))))


@folder("sd15", r"hidden_size is 768 in its weights, and 512 by its config.json")
def text_encoder_of_another_width_than_its_config(root: Path) -> None:
    tell(root / "text_encoder/config.json", hidden_size=512)


@folder("sd15", "contains no UNet.*model_index.json")
def a_checkpoint_in_a_folder(root: Path) -> None:
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        shutil.rmtree(root / part)
    (root / "v1-5.safetensors").write_bytes(b"x")


@folder("sd15")
def words_added_by_textual_inversion(root: Path) -> None:
    def change(state: State) -> None:
        name = next(name for name in state if name.endswith("token_embedding.weight"))
        state[name] = torch.cat([state[name], torch.zeros(1, 768)])

    edit(root / TEXT_FILE, change)
    config = json.loads((root / "text_encoder/config.json").read_text())
    tell(root / "text_encoder/config.json", vocab_size=config["vocab_size"] + 1)


@folder("sd15")
def no_native_size(root: Path) -> None:
    tell(root / "unet/config.json", sample_size=None)


@folder("sd15")
def a_native_size_that_is_not_square(root: Path) -> None:
    tell(root / "unet/config.json", sample_size=[16, 24])
