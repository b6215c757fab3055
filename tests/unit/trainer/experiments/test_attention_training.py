"""RespoDiff's objective at the cross-attention layers: what is trained is what the adapter adds."""

from __future__ import annotations

import pytest
import torch
from respodiff.respodiff_core.adapter.concept import ConceptInfo
from respodiff.respodiff_core.adapter.transforms import Transform
from respodiff.respodiff_core.learning.diffusion import Schedule
from respodiff.respodiff_core.learning.sampling import sample
from respodiff.respodiff_core.steering.fair_groups import FairGroup, steer_rows
from respodiff.respodiff_core.steering.steering import Term
from respodiff.trainer.experiments.attention_training import LayersAsH
from tiny_unets import ALPHAS, random_condition, tiny_denoiser


def wrapped(family: str, places: int = 2, dtype: torch.dtype = torch.float32) -> tuple[LayersAsH, int]:
    denoiser = tiny_denoiser(family)
    denoiser.unet.to(dtype)
    channels = {"input.1.0": 32, "input.3.0": 64, "middle.0.0": 64, "output.0.0": 64, "output.1.0": 64,
                "output.2.0": 32, "output.3.0": 32}  # fmt: skip
    assert list(channels) == list(denoiser.attention_sites)
    return LayersAsH(denoiser, channels, places), sum(channels.values())


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
def test_zero_is_the_model_itself_and_gradients_reach_every_layer(family, size):
    layers, channels = wrapped(family)
    z, t, condition = torch.randn(2, 4, *size), torch.tensor([10, 500]), random_condition(2, family)
    h, carry = layers.encode(z, t, condition)
    assert h.shape == (2, channels, 2, 2)
    plain = tiny_denoiser(family).predict(z, t, condition)
    torch.testing.assert_close(layers.decode(h, carry, condition), plain, rtol=1e-4, atol=1e-4)
    h.requires_grad_(True)
    layers.decode(h, layers.take(carry, slice(None)), condition).square().sum().backward()
    assert (h.grad.abs().amax((0, 2, 3)) > 0).all()


def test_models_in_half_precision_are_trained_too():
    layers, _ = wrapped("sd15", dtype=torch.bfloat16)
    z, t, condition = torch.randn(1, 4, 8, 8), torch.tensor([10]), random_condition(1)
    h, carry = layers.encode(z, t, condition)
    h.requires_grad_(True)
    noise = layers.decode(h, carry, condition)
    noise.sum().backward()
    assert noise.dtype == torch.float32
    assert h.grad.any()


def test_the_adapter_adds_what_was_trained():
    layers, channels = wrapped("sd15", places=8)
    denoiser, condition, empty = tiny_denoiser(), random_condition(1, seed=1), random_condition(1, seed=2)
    ram, sam = (Transform.of({"": 0.1 * torch.randn(channels, 8, 8)}) for _ in range(2))
    concept = layers.concept(ConceptInfo("one"), ram, sam)
    z = torch.randn(1, 4, 8, 8)
    schedule = Schedule.of(ALPHAS, 2)
    steered = sample(
        denoiser, schedule, z, condition, empty, guidance=1.0, steer=steer_rows([FairGroup("", (Term(concept, 1.0),))])
    )
    by_hand = z
    for stage in range(2):
        h, carry = layers.encode(by_hand, schedule.timesteps[stage].expand(1), condition)
        with torch.no_grad():
            noise = layers.decode(h + ram.tensors[""] + sam.tensors[""], carry, condition)
        by_hand = schedule.advance(by_hand, noise, torch.full((1,), stage))
    torch.testing.assert_close(steered, by_hand, rtol=1e-3, atol=1e-3)
