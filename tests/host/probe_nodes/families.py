"""Test-only nodes: tiny models of ComfyUI's transformer families, and a CLIP with tokens as each family has them."""

import hashlib

import comfy.supported_models
import torch
from comfy.model_patcher import ModelPatcher

from .probe import Probe

WIDTH, POOLED = 32, 16
CONFIGS = {
    "flux": (
        "Flux",
        {
            "image_model": "flux",
            "in_channels": 16,
            "out_channels": 16,
            "vec_in_dim": POOLED,
            "context_in_dim": WIDTH,
            "hidden_size": 64,
            "mlp_ratio": 2.0,
            "num_heads": 2,
            "depth": 1,
            "depth_single_blocks": 1,
            "axes_dim": [8, 12, 12],
            "theta": 10000,
            "patch_size": 2,
            "qkv_bias": True,
            "guidance_embed": True,
            "txt_ids_dims": [],
        },
    ),
    "qwen": (
        "QwenImage",
        {
            "image_model": "qwen_image",
            "num_layers": 1,
            "attention_head_dim": 32,
            "num_attention_heads": 2,
            "joint_attention_dim": WIDTH,
            "axes_dims_rope": (8, 12, 12),
        },
    ),
    "z-image": (
        "ZImage",
        {
            "image_model": "lumina2",
            "patch_size": 2,
            "in_channels": 16,
            "dim": 256,
            "n_layers": 1,
            "n_refiner_layers": 1,
            "n_heads": 8,
            "n_kv_heads": 8,
            "multiple_of": 32,
            "qk_norm": True,
            "cap_feat_dim": WIDTH,
            "axes_dims": [8, 12, 12],
            "axes_lens": [300, 64, 64],
            "rope_theta": 256.0,
            "z_image_modulation": True,
            "time_scale": 1000.0,
            "pad_tokens_multiple": 32,
        },
    ),
}
FIXED = {"flux": 16}  # tokens of every text; the others have a token per word


class ProbeTransformer(Probe):
    """A tiny model of a family with random weights."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"family": (list(CONFIGS),)}}

    def run(self, family):
        name, config = CONFIGS[family]
        chosen = getattr(comfy.supported_models, name)(dict(config))
        chosen.set_inference_dtype(torch.float32, None)
        model = chosen.get_model({})
        generator = torch.Generator().manual_seed(0)
        for parameter in model.diffusion_model.parameters():
            parameter.data.normal_(std=0.15, generator=generator)
        cpu = torch.device("cpu")
        return (ModelPatcher(model, load_device=cpu, offload_device=cpu),)


class ProbeWords(Probe):
    """A CLIP that encodes each word at random, always in the same way."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"family": (list(CONFIGS),)}}

    RETURN_TYPES = ("CLIP",)

    def run(self, family):
        class Clip:
            def tokenize(self, text):
                words = text.split() or ["(empty)"]
                return words + [""] * (FIXED.get(family, len(words)) - len(words))

            def encode_from_tokens_scheduled(self, words):
                tokens = torch.stack([vector(word, WIDTH) for word in words])[None]
                return [[tokens, {"pooled_output": vector(" ".join(words), POOLED)[None]}]]

        return (Clip(),)


def vector(text, width):
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    return torch.randn(width, generator=torch.Generator().manual_seed(seed))


class ProbeEncode(Probe):
    """A single prompt, as CLIP Text Encode does."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"clip": ("CLIP",), "text": ("STRING", {"default": ""})}}

    RETURN_TYPES = ("CONDITIONING",)

    def run(self, clip, text):
        return (clip.encode_from_tokens_scheduled(clip.tokenize(text)),)


NODES = (ProbeTransformer, ProbeWords, ProbeEncode)
