"""Definitions of the shipped workflows. make_workflows creates them in ComfyUI's page and saves them."""

from .made_in_the_graph import FAIR_PROMPTS, FAIRNESS_APP, INSTANT_BOTH, INSTANT_FAIRNESS, INSTANT_SAFETY, TRAIN
from .parts import SD15
from .with_an_adapter import (
    COMPANY,
    CONTROLNET,
    CROSSED,
    GENDER_SD15,
    GUARD,
    HIRES,
    MIX,
    RACE_SDXL_WORKFLOW,
    REGION,
    SAFE,
    SDXL,
    STEER,
    SWEEP,
)

# What ComfyUI's page offers to download where it is missing, as ComfyUI's own templates do: the folder and the address.
_HUB = "https://huggingface.co"
DOWNLOADS = {
    SD15: (
        "checkpoints",
        f"{_HUB}/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/{SD15}?download=true",
    ),
    SDXL: ("checkpoints", f"{_HUB}/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/{SDXL}?download=true"),
    CONTROLNET: (
        "controlnet",
        f"{_HUB}/comfyanonymous/ControlNet-v1-1_fp16_safetensors/resolve/main/{CONTROLNET}?download=true",
    ),
}
INSTANT = (INSTANT_FAIRNESS, FAIRNESS_APP, INSTANT_SAFETY, INSTANT_BOTH)
MADE_HERE = (*INSTANT, FAIR_PROMPTS, TRAIN)
"""Those that need no adapter file."""
WORKFLOWS = (
    *MADE_HERE,
    STEER,
    MIX,
    GENDER_SD15,
    RACE_SDXL_WORKFLOW,
    CROSSED,
    SAFE,
    COMPANY,
    HIRES,
    SWEEP,
    REGION,
    GUARD,
)
