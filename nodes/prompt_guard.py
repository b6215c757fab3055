"""Prompt Guard: keeps fairness steering from overriding a prompt that already names a group."""

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
                "Reads the prompt and mutes (does not steer) every axis that the prompt itself specifies: 'a male "
                "doctor' mutes gender. An axis is a set of groups such as gender (woman, man). From several adapters "
                "it selects the one trained for this kind of image: a person, a group of people or a scene. Safety "
                "concepts are never muted."
            ),
            search_aliases=["respodiff", "fairness", "prompt", "guard", "router", "explicit prompt"],
            inputs=[
                io.String.Input(
                    "prompt",
                    force_input=True,
                    tooltip="Text of the positive prompt. Connect the text node that also feeds CLIP Text Encode.",
                ),
                io.Autogrow.Input(
                    "adapters",
                    template=io.Autogrow.TemplatePrefix(adapter_input(), prefix="adapter", min=1, max=MOST_ADAPTERS),
                    tooltip="One adapter, or several to choose from. Each connection adds another input.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="Selects the adapter by similarity to its neutral prompt. If not connected: by keywords.",
                ),
            ],
            outputs=[
                AdapterType.Output(
                    "ADAPTER",
                    tooltip="The selected adapter, with concepts muted if necessary. For Steer or Fair Group.",
                ),
                io.Boolean.Output(
                    "STEER",
                    tooltip=(
                        "True if at least one concept is not muted. An on/off switch for other nodes; connect ADAPTER "
                        "to Steer."
                    ),
                ),
                io.String.Output("CONCEPTS", tooltip="The concepts that are not muted, separated by commas."),
                io.String.Output("TEXT", tooltip="Explanation of what was muted or selected, and why."),
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
        text = "\n".join(verdict.reasons or ("The prompt names no group, so no concept is muted.",))
        return io.NodeOutput(verdict.adapter, bool(verdict.active), ", ".join(verdict.active), text)


def _similarities(clip: Any, prompt: str, neutrals: list[str]) -> list[float]:
    """Cosine similarity of the pooled text embeddings of the prompt and of each neutral prompt."""
    pooled = {text: _pooled(clip, text) for text in (prompt, *neutrals)}
    return [float(torch.cosine_similarity(pooled[prompt], pooled[text], dim=0)) for text in neutrals]


def _pooled(clip: Any, text: str) -> torch.Tensor:
    _, pooled = clip.encode_from_tokens(clip.tokenize(text), return_pooled=True)
    return pooled.flatten().float().cpu()
