"""Small base models need few words and few layers."""

from __future__ import annotations

import pytest
from respodiff.trainer.toyworld import networks
from small_bases import with_few_words_and_layers
from transformers import CLIPTokenizer


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    """ToyWorld's few words, so that text encoders can be small."""
    return networks.write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(autouse=True)
def few_words(monkeypatch: pytest.MonkeyPatch, tokenizer: CLIPTokenizer) -> None:
    with_few_words_and_layers(monkeypatch, tokenizer)
