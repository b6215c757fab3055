"""The split UNet: the stock UNet's own predictions, and gradients with respect to h alone."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from respodiff.respodiff_core.learning.denoiser import Condition
from respodiff.trainer.base.unet_denoiser import UNetDenoiser

CONTEXT, POOLED = 12, 20
ALPHAS = torch.linspace(0.999, 0.005, 1000)
ATTENTION_EVERYWHERE = {
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}
ATTENTION_INSIDE = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": POOLED + 6 * 4,
}
KINDS = {
    "sd15": ATTENTION_EVERYWHERE,
    "sd2": {**ATTENTION_EVERYWHERE, "use_linear_projection": True},
    "sdxl": {**ATTENTION_INSIDE, "transformer_layers_per_block": (1, 1, 2)},
    "vega": {**ATTENTION_INSIDE, "mid_block_type": "UNetMidBlock2D"},
}
SIZES = [(8, 8), (8, 12), (7, 13)]


def make_unet(kind: str) -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        block_out_channels=(8, 16, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=CONTEXT,
        attention_head_dim=2,
        **KINDS[kind],
    )


def states(height: int = 8, width: int = 8) -> tuple[torch.Tensor, torch.Tensor, Condition]:
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(3, 4, height, width, generator=generator)
    context = torch.randn(3, 5, CONTEXT, generator=generator)
    pooled = torch.randn(3, POOLED, generator=generator)
    time_ids = torch.tensor([[64.0, 96.0, 0.0, 0.0, 64.0, 96.0]]).expand(3, -1)
    return z, torch.tensor([1, 500, 981]), Condition(context, pooled, time_ids)


def own_forward(unet: UNet2DConditionModel, z: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
    added = {"text_embeds": condition.pooled, "time_ids": condition.time_ids}
    return unet(z, t, encoder_hidden_states=condition.context, added_cond_kwargs=added).sample


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a - b).abs().max().item()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_encoder_and_decoder_together_are_the_unet(kind, size):
    unet = make_unet(kind)
    z, t, condition = states(*size)
    prediction = UNetDenoiser(unet, ALPHAS).predict(z, t, condition)
    assert difference(prediction, own_forward(unet, z, t, condition)) <= 1e-5


def test_v_is_turned_into_noise():
    unet = make_unet("sd2")
    z, t, condition = states()
    v = own_forward(unet, z, t, condition)
    alpha = ALPHAS[t].view(-1, 1, 1, 1)
    noise = UNetDenoiser(unet, ALPHAS, prediction="v").predict(z, t, condition)
    assert difference(noise, alpha.sqrt() * v + (1 - alpha).sqrt() * z) <= 1e-5
    clean = alpha.sqrt() * z - (1 - alpha).sqrt() * v
    assert difference(z, alpha.sqrt() * clean + (1 - alpha).sqrt() * noise) <= 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_vector_added_to_h_is_the_vector_added_behind_the_middle_block(kind, size):
    unet = make_unet(kind)
    denoiser = UNetDenoiser(unet, ALPHAS)
    z, t, condition = states(*size)
    h, carry = denoiser.encode(z, t, condition)
    vector = torch.randn(h.shape[1:])
    steered = denoiser.decode(h + vector, carry, condition)
    unet.mid_block.register_forward_hook(lambda _module, _args, h: h + vector)
    assert difference(steered, own_forward(unet, z, t, condition)) <= 1e-5
    assert difference(steered, denoiser.decode(h, carry, condition)) > 1e-3


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_the_gradient_is_that_through_the_whole_unet(kind, prediction, checkpointing):
    unet = make_unet(kind)
    denoiser = UNetDenoiser(unet, ALPHAS, prediction=prediction, checkpointing=checkpointing)
    z, t, condition = states(7, 13)
    h, carry = denoiser.encode(z, t, condition)
    vector = torch.randn(h.shape[1:], requires_grad=True)
    (gradient,) = torch.autograd.grad(denoiser.decode(h + vector, carry, condition).square().mean(), vector)

    unet.mid_block.register_forward_hook(lambda _module, _args, h: h + vector)
    output = own_forward(unet, z, t, condition)
    if prediction == "v":
        alpha = ALPHAS[t].view(-1, 1, 1, 1)
        output = alpha.sqrt() * output + (1 - alpha).sqrt() * z
    (expected,) = torch.autograd.grad(output.square().mean(), vector)
    assert expected.abs().max() > 0
    assert difference(gradient, expected) <= 1e-5 * expected.abs().max()


def test_checkpointing_computes_the_decoder_again_only_where_a_gradient_is_wanted():
    unet = make_unet("sd15")
    denoiser = UNetDenoiser(unet, ALPHAS, checkpointing=True)
    z, t, condition = states()
    h, carry = denoiser.encode(z, t, condition)
    calls = []
    unet.up_blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    denoiser.decode(h, carry, condition)
    assert len(calls) == 1
    denoiser.decode(h.requires_grad_(), carry, condition).sum().backward()
    assert len(calls) == 3


def test_nothing_but_h_is_ever_trained():
    unet = make_unet("sdxl").train()
    denoiser = UNetDenoiser(unet, ALPHAS)
    assert not unet.training
    assert not any(parameter.requires_grad for parameter in unet.parameters())
    z, t, condition = states()
    h, carry = denoiser.encode(z.requires_grad_(), t, condition)
    assert not h.requires_grad
    assert not any(tensor.requires_grad for tensor in (carry.embedding, *carry.skips))
    assert denoiser.decode(h.requires_grad_(), carry, condition).requires_grad


@pytest.mark.parametrize("rows", [slice(1, 3), torch.tensor([2, 0, 2])], ids=["slice", "indices"])
@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_some_rows_of_the_carry_decode_like_those_rows_alone(rows, prediction):
    denoiser = UNetDenoiser(make_unet("sdxl"), ALPHAS, prediction=prediction)
    z, t, condition = states(7, 13)
    h, carry = denoiser.encode(z, t, condition)
    some = condition.rows(torch.arange(3)[rows])
    decoded = denoiser.decode(h[rows], denoiser.take(carry, rows), some)
    assert difference(decoded, denoiser.predict(z, t, condition)[rows]) <= 1e-5


def test_a_half_precision_unet_still_takes_and_gives_full_precision():
    unet = make_unet("sdxl")
    z, t, condition = states()
    full = UNetDenoiser(unet, ALPHAS, prediction="v").predict(z, t, condition)
    denoiser = UNetDenoiser(unet.to(torch.bfloat16), ALPHAS, prediction="v")
    h, carry = denoiser.encode(z, t, condition)
    assert h.dtype == torch.bfloat16
    assert (carry.z.dtype, carry.signal.dtype, carry.noise.dtype) == (torch.float32,) * 3
    noise = denoiser.decode(h.float(), carry, condition)
    assert noise.dtype == torch.float32
    assert difference(noise, full) < 0.1
