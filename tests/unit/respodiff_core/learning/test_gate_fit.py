"""The gate that is fitted to contrasting prompts."""

from __future__ import annotations

import pytest
import torch
from respodiff.respodiff_core.learning.gate_fit import gate_of

WIDTH, TOKENS = 32, 8


def encoded(*words: torch.Tensor, seed: int) -> torch.Tensor:
    """A prompt of random tokens, and of these words among them."""
    tokens = torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(seed))
    for place, word in enumerate(words):
        tokens[2 + place] = word
    return tokens


@pytest.fixture(scope="module")
def words() -> torch.Tensor:
    return 3 * torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(9))


@pytest.fixture(scope="module")
def contexts(words) -> list[torch.Tensor]:
    return [torch.stack([encoded(seed=n), *(encoded(word, seed=n) for word in words)]) for n in range(40)]


def test_the_responses_are_scaled_to_the_prompts_it_is_fitted_to(contexts):
    gate = gate_of(contexts)
    responses = torch.stack([gate.responses(each) for each in contexts]).mean(0)
    torch.testing.assert_close(responses[0], torch.full((2,), -1.0))
    torch.testing.assert_close(responses[1:].diagonal(), torch.ones(2))


def test_it_tells_other_prompts_that_name_a_group(contexts, words):
    gate = gate_of(contexts)
    neutral = torch.stack([encoded(seed=1000 + n) for n in range(50)])
    assert gate.is_open(neutral).all()
    for word in words:
        assert not gate.is_open(torch.stack([encoded(word, seed=2000 + n) for n in range(50)])).any()


def test_contexts_may_have_different_numbers_of_tokens(contexts):
    longer = [torch.cat([each, each], 1) for each in contexts]
    assert gate_of([*contexts[:20], *longer[20:]]).reading.shape == (2, WIDTH)


def test_words_that_hardly_change_the_encodings_have_no_gate(contexts):
    same = [torch.stack([each[0], each[0] + 1e-6, each[1]]) for each in contexts]
    assert gate_of(same) is None
