"""Small base models need few words and few layers."""

from __future__ import annotations

import pytest
from respodiff.trainer.base import diffusers_folder, single_file
from respodiff.trainer.toyworld import networks
from small_bases import with_few_layers
from transformers import CLIPTokenizer


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    """ToyWorld's few words, so that text encoders can be small."""
    return networks.write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(autouse=True)
def few_words(monkeypatch: pytest.MonkeyPatch, tokenizer: CLIPTokenizer) -> None:
    for module in (single_file, diffusers_folder):
        monkeypatch.setattr(module, "clip_tokenizer", lambda: tokenizer)
    with_few_layers(monkeypatch)
