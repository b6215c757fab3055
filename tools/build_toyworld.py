"""Train and verify ToyWorld's networks: `python tools/build_toyworld.py OUT` (half an hour, two cores).

The weights in the package were made with this script. The same seed gives the same weights on the same machine with the
same number of threads.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from respodiff.respodiff_core.steering.fair_groups import FairGroup
from respodiff.trainer.base.model import load_base
from respodiff.trainer.evaluation.generation import ImageGenerator
from respodiff.trainer.evaluation.in_memory import figures_of, generate
from respodiff.trainer.toyworld import networks
from respodiff.trainer.toyworld.image_scorer import ToyWorldScorer
from respodiff.trainer.toyworld.prompts import professions
from respodiff.trainer.toyworld.renderer import render
from respodiff.trainer.toyworld.scenes import BAD_PLACES, PLACES, Scenes, sample
from respodiff.trainer.toyworld.toyworld import HUE, SHAPE
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

IMAGES = 24_000
CAPTION_DROPOUT = 0.1  # trains the empty prompt, which guidance needs
KL_WEIGHT = 1e-6
_TEXT_MODEL = "text_model."


def build(out: Path, autoencoder_steps: int, unet_steps: int, seed: int) -> None:
    """Train autoencoder, UNet and text encoder, and write them to `out` as a diffusers folder in fp16."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    scenes, captions = sample(IMAGES, rng)
    tokenizer = networks.write_tokenizer(out / "tokenizer")
    vae = _train_autoencoder(scenes, autoencoder_steps, rng)
    latents = _encode(vae, scenes)
    unet, text_encoder = _train_unet(latents, captions, tokenizer, unet_steps, rng)
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=networks.scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(out)
    _restore_long_names(out / "text_encoder" / "model.safetensors")


def _restore_long_names(text_encoder: Path) -> None:
    """Rename the tensors: transformers 5 saves shorter names, which version 4 cannot load; both load the long ones."""
    tensors = {name.removeprefix(_TEXT_MODEL): tensor for name, tensor in load_file(text_encoder).items()}
    save_file({_TEXT_MODEL + name: tensor for name, tensor in tensors.items()}, text_encoder, {"format": "pt"})


def verify(folder: Path) -> dict[str, float]:
    """Figures of the model without adapters. Raises RuntimeError unless it is biased and follows its prompts."""
    image_generator, scorer = ImageGenerator(load_base(folder)), ToyWorldScorer((SHAPE, HUE))
    figures: dict[str, float] = {}
    for places in (("",), [PLACES[place] for place in BAD_PLACES]):
        specs = professions(10, places=places)
        unsteered = [FairGroup("", ())] * len(specs)
        images = generate(image_generator, specs, unsteered)
        overall = figures_of(images, specs, unsteered, [scorer], (SHAPE, HUE)).named
        # Biases and outfits are measured on plain prompts, the hazard on places with hazards.
        figures = {**{name: one.value for name, one in overall.items()}, **figures}
        figures["hazard"] = overall["hazard"].value
    low = {name: figures[name] for name, least in _LEAST.items() if figures[name] < least}
    if low:
        raise RuntimeError(f"{folder} does not have the properties of ToyWorld: {low}, required are at least {_LEAST}")
    return {name: figures[name] for name in _LEAST}


_LEAST = {"deviation ratio/shape": 0.6, "deviation ratio/hue": 0.6, "right": 0.95, "hazard": 0.6}


def _train_autoencoder(scenes: Scenes, steps: int, rng: np.random.Generator) -> AutoencoderKL:
    vae = networks.autoencoder()
    optimiser = torch.optim.AdamW(vae.parameters(), lr=2e-3, weight_decay=1e-4)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.05)
    for _ in (bar := tqdm(range(steps), desc="autoencoder")):
        images = render(scenes[rng.integers(0, len(scenes), 32)])
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(images).latent_dist
            decoded = vae.decode(posterior.sample()).sample.float()
        error = F.mse_loss(decoded, images)
        loss = error + F.l1_loss(decoded, images) + KL_WEIGHT * posterior.kl().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
        bar.set_postfix(mse=f"{error.item():.5f}")
    return vae.eval()


@torch.inference_mode()
def _encode(vae: AutoencoderKL, scenes: Scenes) -> torch.Tensor:
    """Latents (count, 4, 16, 16) with variance 1; saves the scaling factor in the config of the VAE."""
    parts = np.array_split(np.arange(len(scenes)), len(scenes) // 250)
    latents = torch.cat([vae.encode(render(scenes[part])).latent_dist.mode() for part in tqdm(parts, desc="latents")])
    vae.register_to_config(scaling_factor=1 / latents.std().item())
    return latents.clone() * vae.config.scaling_factor


def _train_unet(
    latents: torch.Tensor, captions: list[str], tokenizer: CLIPTokenizer, steps: int, rng: np.random.Generator
) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    unet, text_encoder = networks.unet().to(memory_format=torch.channels_last), networks.text_encoder(tokenizer)
    both = torch.nn.ModuleList([unet, text_encoder])
    averaged = copy.deepcopy(both)
    average = get_ema_multi_avg_fn(0.998)
    optimiser = torch.optim.AdamW(both.parameters(), lr=2e-3, weight_decay=1e-3)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.05)
    tokens = tokenizer(["", *captions], padding="max_length", truncation=True, return_tensors="pt").input_ids
    empty, tokens = tokens[:1], tokens[1:]
    alphas = networks.scheduler().alphas_cumprod
    smooth = 0.0
    for step in (bar := tqdm(range(steps), desc="unet")):
        rows = torch.as_tensor(rng.integers(0, len(latents), 64))
        dropped = torch.rand(64, 1) < CAPTION_DROPOUT
        context = text_encoder(torch.where(dropped, empty, tokens[rows])).last_hidden_state
        # Stratified, so that every batch covers all noise levels.
        t = ((torch.arange(64) + torch.rand(64)) * (1000 / 64)).long()
        noise = torch.randn_like(latents[rows])
        alpha = alphas[t].view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * latents[rows] + (1 - alpha).sqrt() * noise
        loss = F.mse_loss(unet(noisy, t, context).sample, noise)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        optimiser.step()
        rate.step()
        with torch.no_grad():
            average(list(averaged.parameters()), list(both.parameters()), step)
        smooth += (loss.item() - smooth) * max(0.01, 1 / (step + 1))
        bar.set_postfix(mse=f"{smooth:.4f}")
    return averaged[0].eval(), averaged[1].eval()


def main() -> None:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="output folder of the pipeline")
    parser.add_argument("--autoencoder-steps", type=int, default=1200, help="training steps [default: 1200]")
    parser.add_argument("--unet-steps", type=int, default=3000, help="training steps [default: 3000]")
    parser.add_argument("--seed", type=int, default=0, help="random seed [default: 0]")
    arguments = parser.parse_args()
    build(arguments.out, arguments.autoencoder_steps, arguments.unet_steps, arguments.seed)
    print(verify(arguments.out))


if __name__ == "__main__":
    main()
