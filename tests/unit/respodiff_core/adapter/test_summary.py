"""The summary and the picture that Inspect shows."""

from __future__ import annotations

import torch
from adapters import random_adapter
from respodiff.respodiff_core.adapter.adapter import Adapter
from respodiff.respodiff_core.adapter.concept import ConceptInfo, ModuleConcept
from respodiff.respodiff_core.adapter.summary import rms_map, summarise
from respodiff.respodiff_core.adapter.transforms import Transform


def test_the_map_is_the_rms_over_channels():
    module = Transform.of({"": torch.stack([torch.full((2, 3), 3.0), torch.full((2, 3), 4.0)])})
    torch.testing.assert_close(rms_map(module), torch.full((2, 3), 12.5**0.5))


def test_the_summary_names_what_a_reader_asks_for():
    text = summarise(random_adapter("woman", "man"))
    assert "Stable Diffusion 1.x, 2 concepts, epsilon prediction" in text
    assert "woman (fairness, constant, 6 channels)" in text
    assert "target prompt: a man" in text
    assert "author: someone" in text


def test_a_module_that_adds_nothing_says_so():
    zeros = Transform.of({"": torch.zeros(6, 2, 2)})
    adapter = Adapter("sd15", {"woman": ModuleConcept(ConceptInfo("woman"), zeros, zeros)}, "epsilon")
    assert "SAM: none (all zeros)" in summarise(adapter)


def test_modules_that_look_at_h_say_so():
    assert "depends on h (mlp, 45 weights)" in summarise(random_adapter(kind="mlp"))
