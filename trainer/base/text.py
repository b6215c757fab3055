"""Encoding of prompts for the UNet, as in ComfyUI and the models' original code."""

from __future__ import annotations

import gzip
import importlib.util
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTokenizer

from ...respodiff_core.learning.denoiser import Condition
from ...respodiff_core.unfinished import temporary_folder
from .base_model_error import BaseModelError
from .conventions import Conventions, TextConvention

log = logging.getLogger(__name__)

START, END = "<|startoftext|>", "<|endoftext|>"
_VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
_TOKENS = 49_408


class TextEncoders:
    """A family's text encoders and the tokenizer that they share."""

    def __init__(
        self, models: Sequence[Any], tokenizer: CLIPTokenizer, conventions: Conventions, name: str = "the model"
    ) -> None:
        """`name` is the base model's, for messages. Raises BaseModelError for another vocabulary."""
        words = max(tokenizer.get_vocab().values()) + 1
        fewest = min(model.config.vocab_size for model in models)
        if words > fewest:
            raise BaseModelError(
                f"The tokenizer of {name} has {words} words, and its text encoder {fewest}: they are not of one model."
            )
        self._models = models
        self._tokenizer = tokenizer
        self._conventions = conventions

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], image_size: tuple[int, int]) -> Condition:
        """One fp32 row per prompt, on the encoders' device; `image_size` (height, width) is in pixels.

        An empty prompt is encoded like any other, as in ComfyUI and the original code. (diffusers' SDXL pipeline uses
        zeros instead, if the model's config says so.) Prompts beyond the encoders' limit are truncated.
        """
        outputs = [
            self._read(model, convention, prompts)
            for model, convention in zip(self._models, self._conventions.texts, strict=True)
        ]
        # Of different length if one is a long CLIP: ComfyUI cuts the longer too.
        tokens = min(states.shape[1] for states, _ in outputs)
        context = torch.cat([states[:, :tokens] for states, _ in outputs], dim=-1)
        if not self._conventions.pooled:
            return Condition(context)
        time_ids = torch.tensor([[*image_size, 0, 0, *image_size]], device=context.device, dtype=torch.float32)
        return Condition(context, outputs[-1][1], time_ids.expand(len(prompts), -1))

    def _read(
        self, model: Any, convention: TextConvention, prompts: Sequence[str]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        ids = self._tokenize(prompts, convention.pad, model.config.max_position_embeddings)
        output = model(ids.to(model.device), output_hidden_states=convention.penultimate)
        states = output.hidden_states[-2] if convention.penultimate else output.last_hidden_state
        return states, getattr(output, "text_embeds", None)

    def _tokenize(self, prompts: Sequence[str], pad: int | str, length: int) -> torch.Tensor:
        # Padded here: a tokenizer that pads with "!" would also treat "!" in a prompt as padding.
        pad_id = pad if isinstance(pad, int) else self._tokenizer.convert_tokens_to_ids(pad)
        rows = self._tokenizer(list(prompts), truncation=True, max_length=length)["input_ids"]
        for prompt, row in zip(prompts, rows, strict=True):
            if len(row) == length:
                log.warning("prompt truncated to its first %d tokens: %s", length - 2, prompt)
        return torch.tensor([row + [pad_id] * (length - len(row)) for row in rows])


def clip_tokenizer() -> CLIPTokenizer:
    """The tokenizer of all CLIP text encoders, with the vocabulary in the package open-clip-torch.

    Checkpoint files contain no vocabulary. Raises BaseModelError if that package is missing.
    """
    package = importlib.util.find_spec("open_clip")  # without importing it, which takes seconds
    if package is None or package.origin is None:
        raise BaseModelError(
            "A checkpoint file contains no vocabulary for its text encoder, and the package that has it is missing. "
            "Run `pip install open-clip-torch` (optionally with `--no-deps`: only its vocabulary file is read)."
        )
    lines = gzip.decompress(Path(package.origin).with_name(_VOCABULARY).read_bytes()).decode("utf-8").split("\n")
    symbols = _byte_symbols()
    # The first line is a title, and the list has more merges than CLIP was trained with.
    merges = lines[1 : _TOKENS - 2 * len(symbols) - 2 + 1]
    tokens = [*symbols, *(symbol + "</w>" for symbol in symbols), *("".join(pair.split()) for pair in merges)]
    vocabulary = {token: number for number, token in enumerate([*tokens, START, END])}
    with temporary_folder("respodiff-vocabulary-") as folder:
        (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), "utf-8")
        return CLIPTokenizer.from_pretrained(folder)


def _byte_symbols() -> list[str]:
    """A printable character for each byte, in the vocabulary's order; printable bytes map to themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(256 - len(printable))]
