"""Small models of each family, in diffusers' parts and in the naming of the models' authors."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from respodiff.trainer.base import conventions, diffusers_folder, single_file
from respodiff.trainer.base.model import BaseModel
from respodiff.trainer.toyworld import networks
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

State = dict[str, torch.Tensor]
UNET = "model.diffusion_model."
PROMPTS = ["", "a tailor"]
LENGTH = 20

_OUTER = {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D")}
_OUTER["up_block_types"] = ("UpBlock2D", "CrossAttnUpBlock2D")
_INNER = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")}
_INNER["up_block_types"] = ("CrossAttnUpBlock2D", "UpBlock2D")
_XL = {
    **_INNER,
    "block_out_channels": (32, 64),
    "cross_attention_dim": 2048,
    "attention_head_dim": (1, 1),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
UNETS: dict[str, dict[str, Any]] = {
    "sd15": {**_OUTER, "block_out_channels": (32, 64), "cross_attention_dim": 768, "attention_head_dim": 8},
    "sd2": {
        **_OUTER,
        "block_out_channels": (64, 128),
        "cross_attention_dim": 1024,
        "attention_head_dim": (1, 2),
        "use_linear_projection": True,
    },
    "sdxl": {**_XL, "transformer_layers_per_block": (1, 2)},
    "vega": {**_XL, "mid_block_type": "UNetMidBlock2D", "transformer_layers_per_block": (1, 1)},
}
# Width, layers and prefix of the text encoders; Stable Diffusion 2 leaves the last layer out.
TEXTS = {
    "sd15": ((768, 2, "cond_stage_model.transformer.text_model."),),
    "sd2": ((1024, 3, "cond_stage_model.model."),),
    "sdxl": ((768, 2, "conditioner.embedders.0.transformer.text_model."), (1280, 2, "conditioner.embedders.1.model.")),
}
TEXTS["vega"] = TEXTS["sdxl"]


class Networks:
    """A small model of each family as diffusers and transformers hold it."""

    def __init__(self, kind: str, tokenizer: CLIPTokenizer) -> None:
        torch.manual_seed(0)
        self.kind = kind
        self.tokenizer = tokenizer
        self.unet = UNet2DConditionModel(sample_size=16, layers_per_block=1, **UNETS[kind]).eval()
        self.vae = AutoencoderKL(
            block_out_channels=(32, 64),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=1,
            scaling_factor=0.13025 if len(TEXTS[kind]) == 2 else 0.18215,
        ).eval()
        self.texts = [self._text(*text) for text in TEXTS[kind]]

    def _text(self, width: int, layers: int, prefix: str) -> Any:
        config = CLIPTextConfig(
            vocab_size=len(self.tokenizer),
            hidden_size=width,
            projection_dim=width,
            intermediate_size=64,
            num_hidden_layers=layers,
            num_attention_heads=width // 64,
            max_position_embeddings=LENGTH,
            hidden_act="gelu" if prefix.endswith(".model.") else "quick_gelu",
            bos_token_id=self.tokenizer.bos_token_id,
            eos_token_id=self.tokenizer.eos_token_id,
        )
        return (CLIPTextModelWithProjection if width == 1280 else CLIPTextModel)(config).eval()

    def predict(self, z: torch.Tensor, t: torch.Tensor, base: BaseModel) -> torch.Tensor:
        condition = base.encode_prompts(PROMPTS)
        added = {"text_embeds": condition.pooled, "time_ids": condition.time_ids}
        with torch.no_grad():
            return self.unet(z, t, encoder_hidden_states=condition.context, added_cond_kwargs=added).sample

    def ids(self, pad: int) -> torch.Tensor:
        rows = self.tokenizer(PROMPTS)["input_ids"]
        return torch.tensor([row + [pad] * (LENGTH - len(row)) for row in rows])

    def checkpoint(self) -> State:
        """In the naming of the models' authors."""
        state = {UNET + name: value for name, value in ldm_unet(self.unet).items()}
        state |= {"first_stage_model." + name: value for name, value in ldm_vae(self.vae).items()}
        for model, (_, _, prefix) in zip(self.texts, TEXTS[self.kind], strict=True):
            named = {name.removeprefix("text_model."): value for name, value in model.state_dict().items()}
            named = open_clip(named) if prefix.endswith(".model.") else named
            state |= {prefix + name: value for name, value in named.items()}
        return {name: value.contiguous().clone() for name, value in state.items()}

    def save(self, folder: Path, prediction: str = "epsilon", **schedule: Any) -> Path:
        """As a diffusers folder."""
        self.unet.save_pretrained(folder / "unet")
        self.vae.save_pretrained(folder / "vae")
        for number, model in enumerate(self.texts):
            saved = without_last_layer(model) if self.kind == "sd2" else model
            saved.save_pretrained(folder / ("text_encoder" if number == 0 else "text_encoder_2"))
        self.tokenizer.save_pretrained(folder / "tokenizer")
        scheduler = DDIMScheduler.from_config(networks.scheduler().config, prediction_type=prediction, **schedule)
        scheduler.save_pretrained(folder / "scheduler")
        return folder


def with_few_words_and_layers(monkeypatch: pytest.MonkeyPatch, tokenizer: CLIPTokenizer) -> None:
    """Base models read prompts by this tokenizer, so that text encoders can be small, and two of three layers of
    Stable Diffusion 2's, which has 24 and of which 23 are read.
    """
    for module in (single_file, diffusers_folder):
        monkeypatch.setattr(module, "clip_tokenizer", lambda: tokenizer)
    few = [
        replace(family, texts=tuple(replace(text, layers=text.layers and 2) for text in family.texts))
        for family in conventions.CONVENTIONS
    ]
    monkeypatch.setattr(conventions, "CONVENTIONS", tuple(few))


def without_last_layer(model: Any) -> Any:
    """The text encoder as folders of Stable Diffusion 2 hold it."""
    shorter = copy.deepcopy(model)
    encoder = getattr(shorter, "text_model", shorter).encoder
    encoder.layers = encoder.layers[:-1]
    shorter.config.num_hidden_layers -= 1
    return shorter


RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
UNET_ENDS = {
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
}  # fmt: skip
MIDDLE = {"resnets.0": "middle_block.0", "attentions.0": "middle_block.1", "resnets.1": "middle_block.2"}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
CLIP = {
    "embeddings.token_embedding.": "token_embedding.", "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final", "encoder.layers.": "transformer.resblocks.", "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
}  # fmt: skip


def ldm_unet(unet: UNet2DConditionModel) -> State:
    """Of UNets with two levels and one block on each (two on the way up)."""
    upsampler = f"output_blocks.1.{2 if hasattr(unet.up_blocks[0], 'attentions') else 1}."

    def place(name: str) -> str:
        if block := re.match(r"(down|up)_blocks\.(\d)\.(resnets|attentions)\.(\d)\.", name):
            side, level, part, number = block.groups()
            index = 2 * int(level) + int(number) + (side == "down")
            where = f"{'input' if side == 'down' else 'output'}_blocks.{index}.{int(part == 'attentions')}."
            return where + _resnet(name[block.end() :], part)
        if block := re.match(r"mid_block\.((resnets|attentions)\.\d)\.", name):
            return f"{MIDDLE[block[1]]}." + _resnet(name[block.end() :], block[2])
        if name.startswith("up_blocks.0.upsamplers.0."):
            return upsampler + name.removeprefix("up_blocks.0.upsamplers.0.")
        module, _, parameter = name.rpartition(".")
        return f"{UNET_ENDS[module]}.{parameter}"

    return {place(name): value for name, value in unet.state_dict().items()}


def _resnet(name: str, part: str) -> str:
    module, _, parameter = name.rpartition(".")
    return f"{RESNET[module]}.{parameter}" if part == "resnets" else name


def ldm_vae(vae: AutoencoderKL) -> State:
    """Of autoencoders with two levels."""

    def place(name: str) -> str:
        if name.startswith("decoder.up_blocks."):
            name = f"decoder.up_blocks.{1 - int(name[18])}{name[19:]}"
        name = re.sub(r"(down|up)_blocks\.", r"\1.", name).replace("conv_norm_out", "norm_out")
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
        name = re.sub(r"(down|up)samplers\.0", r"\1sample", name.replace("resnets", "block"))
        for old, new in VAE_ATTENTION.items():
            name = name.replace(f"mid_block.attentions.0.{old}.", f"mid.attn_1.{new}.")
        return name.replace("conv_shortcut", "nin_shortcut")

    state = {place(name): value for name, value in vae.state_dict().items()}
    # The authors' attention has convolutions of size 1 where diffusers has matrices.
    return {
        name: value[..., None, None] if ".attn_1." in name and value.ndim == 2 else value
        for name, value in state.items()
    }


def open_clip(state: State) -> State:
    """A text encoder in OpenCLIP's naming: query, key and value in one matrix, the projection transposed."""
    renamed: State = {}
    for name, value in state.items():
        for old, new in CLIP.items():
            name = name.replace(old, new)
        if name == "text_projection.weight":
            renamed["text_projection"] = value.T
        elif ".q_proj." in name:
            layer, parameter = re.fullmatch(r"(.+)\.self_attn\.q_proj\.(\w+)", name).groups()
            parts = [state[_original(name).replace("q_proj", f"{part}_proj")] for part in "qkv"]
            renamed[f"{layer}.attn.in_proj_{parameter}"] = torch.cat(parts)
        elif not re.search(r"\.[kv]_proj\.", name):
            renamed[name] = value
    return renamed


def _original(name: str) -> str:
    return name.replace("transformer.resblocks.", "encoder.layers.")
