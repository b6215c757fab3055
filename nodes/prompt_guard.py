"""Prompt Guard: fairness must not overrule a prompt that already says who is shown."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..respodiff_core.adapter.adapter import Adapter
from ..respodiff_core.errors import AdapterFileError
from ..respodiff_core.steering.prompt_guard import guard, neutral_prompt
from .inputs import CATEGORY, AdapterType, adapter_input

MOST_ADAPTERS = 16


class PromptGuard(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffPromptGuard",
            display_name="RespoDiff Prompt Guard",
            category=CATEGORY,
            description=(
                "Reads the prompt and mutes the concepts of an axis that it decides itself: with 'a male doctor' "
                "gender is left alone. Of several adapters it passes on the one whose neutral prompt fits best "
                "(person, group of people, scene). Safety concepts are never muted."
            ),
            search_aliases=["respodiff", "fairness", "prompt", "guard", "router", "explicit prompt"],
            inputs=[
                io.String.Input(
                    "prompt",
                    force_input=True,
                    tooltip="The positive prompt's text: connect the text node that also goes to CLIP Text Encode.",
                ),
                io.Autogrow.Input(
                    "adapters",
                    template=io.Autogrow.TemplatePrefix(adapter_input(), prefix="adapter", min=1, max=MOST_ADAPTERS),
                    tooltip="One adapter, or several to choose from; a free input appears with each that is connected.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="Chooses among adapters by similarity to their neutral prompts; without it by words.",
                ),
            ],
            outputs=[
                AdapterType.Output("ADAPTER", tooltip="For Steer or Fair Group; muted where need be."),
                io.Boolean.Output("STEER", tooltip="Whether any concept may steer."),
                io.String.Output("CONCEPTS", tooltip="Those that may, parted by commas."),
                io.String.Output("TEXT", tooltip="What was found, in sentences."),
            ],
        )

    @classmethod
    def execute(cls, prompt: str, adapters: io.Autogrow.Type, clip: Any = None) -> io.NodeOutput:
        connected: list[Adapter] = [one for one in adapters.values() if one is not None]
        if not connected:
            raise AdapterFileError("No adapter is connected: connect Load RespoDiff Adapter.")
        similarities = None
        if clip is not None and len(connected) > 1:
            similarities = _similarities(clip, prompt, [neutral_prompt(one) for one in connected])
        verdict = guard(prompt, connected, similarities)
        text = "\n".join(verdict.reasons or ("The prompt names no group: every concept may steer.",))
        return io.NodeOutput(verdict.adapter, bool(verdict.active), ", ".join(verdict.active), text)


def _similarities(clip: Any, prompt: str, neutrals: list[str]) -> list[float]:
    """Cosine of the prompt's pooled text embedding with each neutral prompt's."""
    pooled = {text: _pooled(clip, text) for text in (prompt, *neutrals)}
    return [float(torch.cosine_similarity(pooled[prompt], pooled[text], dim=0)) for text in neutrals]


def _pooled(clip: Any, text: str) -> torch.Tensor:
    _, pooled = clip.encode_from_tokens(clip.tokenize(text), return_pooled=True)
    return pooled.flatten().float().cpu()
