"""The losses and their gradients, held against the plain computation: whole forward passes and autograd."""

from __future__ import annotations

import pytest
import torch
from respodiff.respodiff_core.adapter.transforms import Transform
from respodiff.respodiff_core.learning.diffusion import Schedule, guided
from respodiff.respodiff_core.learning.learner import Learner
from respodiff.respodiff_core.learning.objective import Prompts, ReferenceScoreMatching, ScoreMatching
from respodiff.trainer.run.unet_evaluations import counting
from respodiff.trainer.toyworld import networks
from tiny_unets import ALPHAS, H_SHAPE, LATENT, random_condition, tiny_denoiser, tiny_unet

EMPTY, NEUTRAL, OTHER_NEUTRAL, TARGET, UNSAFE = range(5)
FAIRNESS = {"positive": TARGET, "negative": EMPTY}
SAFETY = {"positive": None, "negative": UNSAFE}
ROWS = 3


def prompts(family: str = "sd15", **roles) -> Prompts:
    return Prompts(random_condition(5, family), EMPTY, (NEUTRAL, OTHER_NEUTRAL), **(roles or FAIRNESS))


def states() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return (
        torch.randn(ROWS, 4, *LATENT, generator=generator),
        torch.tensor([981, 501, 21]),
        torch.tensor([NEUTRAL, OTHER_NEUTRAL, NEUTRAL]),
    )


def random_module(seed: int) -> Transform:
    return Transform.of({"": 0.3 * torch.randn(H_SHAPE, generator=torch.Generator().manual_seed(seed))})


class WholeUNet:
    """The same predictions from diffusers' own forward, RAM and SAM added by a hook on its middle block."""

    def __init__(self, family: str, table) -> None:
        self.unet, self.table, self.family = tiny_unet(family), table, family

    def __call__(self, z, t, rows, added=None):
        condition = self.table.rows(rows)
        extra = {"text_embeds": condition.pooled, "time_ids": condition.time_ids}
        hook = self.unet.mid_block.register_forward_hook(lambda _m, _a, h: h if added is None else h + added)
        out = self.unet(z, t, condition.context, added_cond_kwargs=extra if self.family == "sdxl" else None).sample
        hook.remove()
        if self.family != "sd2":
            return out
        alpha = ALPHAS[t].view(-1, 1, 1, 1)
        return alpha.sqrt() * out + (1 - alpha).sqrt() * z


@pytest.mark.parametrize("roles", [FAIRNESS, SAFETY], ids=["fairness", "safety"])
@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
def test_gradients_are_those_of_the_plain_computation(family, roles):
    asked = prompts(family, **roles)
    objective = ScoreMatching(tiny_denoiser(family), asked, guidance=4.0, rollout_guidance=3.0)
    ram, sam = (Transform.of({"": m.tensors[""].clone().requires_grad_()}) for m in map(random_module, (1, 2)))
    z, t, neutral = states()
    frozen = objective.predict_frozen(z, t, neutral)
    (objective.steered(frozen, ram) - frozen.target).square().mean().backward()
    (objective.steered(frozen, ram.detach(), sam) - frozen.plain).square().mean().backward()

    whole = WholeUNet(family, asked.table)
    a, b = (m.tensors[""].detach().clone().requires_grad_() for m in (ram, sam))
    with torch.no_grad():
        plain = whole(z, t, neutral)
        negative = whole(z, t, torch.full_like(neutral, asked.negative))
        positive = plain if asked.positive is None else whole(z, t, torch.full_like(neutral, asked.positive))
    target = negative + 4.0 * (positive - negative)
    (whole(z, t, neutral, a) - target).square().mean().backward()
    (whole(z, t, neutral, a.detach() + b) - plain).square().mean().backward()
    for found, expected in ((ram.tensors[""].grad, a.grad), (sam.tensors[""].grad, b.grad)):
        assert (found - expected).norm() / expected.norm() <= 1e-5


@pytest.mark.parametrize("roles", [FAIRNESS, SAFETY], ids=["fairness", "safety"])
def test_the_reference_makes_more_passes_to_the_same_predictions(roles):
    denoiser = tiny_denoiser()
    ours, reference = (
        kind(denoiser, prompts(**roles), guidance=4.0, rollout_guidance=3.0)
        for kind in (ScoreMatching, ReferenceScoreMatching)
    )
    cost = {}
    looks = {}
    for objective in (ours, reference):
        with counting(denoiser.unet) as evaluations:
            looks[objective] = objective.predict_frozen(*states())
            steered = objective.steered(looks[objective], random_module(1))
        cost[objective] = evaluations.total / ROWS
        looks[objective] = (looks[objective].plain, looks[objective].target, steered)
    for one, other in zip(looks[ours], looks[reference], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert cost[ours] == 3.5
    assert cost[reference] == 6


def test_a_step_costs_five_evaluations_a_sample():
    denoiser = tiny_denoiser()
    for roles in (FAIRNESS, SAFETY):
        objective = ScoreMatching(denoiser, prompts(**roles), guidance=4.0, rollout_guidance=3.0)
        for update in ("sequential", "joint"):
            learner = Learner("constant", H_SHAPE, ram_rate=0.1, sam_rate=0.1, update=update)
            with counting(denoiser.unet) as evaluations:
                learner.step(objective, objective.predict_frozen(*states()))
            assert evaluations.total / ROWS == 5


def test_ram_moves_by_its_own_loss_and_then_sam_by_its_own():
    """Against Adam on the plain losses, in the paper's order; RAM never learns from SAM's loss."""
    objective = ScoreMatching(tiny_denoiser(), prompts(), guidance=4.0, rollout_guidance=3.0)
    learner = Learner("constant", H_SHAPE, ram_rate=1e-2, sam_rate=1e-3)
    ram, sam = (torch.zeros(H_SHAPE, requires_grad=True) for _ in range(2))
    adams = [torch.optim.Adam([p], lr=rate) for p, rate in ((ram, 1e-2), (sam, 1e-3))]
    frozen = objective.predict_frozen(*states())
    for _ in range(3):
        learner.step(objective, frozen)
        for adam, modules, wanted in (
            (adams[0], lambda: (ram,), frozen.target),
            (adams[1], lambda: (ram.detach(), sam), frozen.plain),
        ):
            adam.zero_grad()
            steered = objective.steered(frozen, *(Transform.of({"": m}) for m in modules()))
            (steered - wanted).square().mean().backward()
            adam.step()
    for module, expected in zip(learner.finished(), (ram, sam), strict=True):
        assert expected.abs().max() > 0
        torch.testing.assert_close(module.tensors[""], expected.detach(), rtol=1e-4, atol=1e-7)


def test_one_shared_module_learns_from_both_losses():
    """Against one plain tensor that Adam moves by RAM's loss, and another Adam by SAM's; SAM stays at zero."""
    objective = ScoreMatching(tiny_denoiser(), prompts(), guidance=4.0, rollout_guidance=3.0)
    learner = Learner("constant", H_SHAPE, ram_rate=1e-2, sam_rate=1e-3, update="shared")
    shared = torch.zeros(H_SHAPE, requires_grad=True)
    adams = [torch.optim.Adam([shared], lr=rate) for rate in (1e-2, 1e-3)]
    frozen = objective.predict_frozen(*states())
    for _ in range(3):
        learner.step(objective, frozen)
        for adam, wanted in zip(adams, (frozen.target, frozen.plain), strict=True):
            adam.zero_grad()
            (objective.steered(frozen, Transform.of({"": shared})) - wanted).square().mean().backward()
            adam.step()
    ram, sam = learner.finished()
    torch.testing.assert_close(ram.tensors[""], shared.detach(), rtol=1e-4, atol=1e-7)
    assert not sam.tensors[""].any()

    resumed = Learner("constant", H_SHAPE, ram_rate=1e-2, sam_rate=1e-3, update="shared")
    resumed.load_state({name: value.clone() for name, value in learner.state().items()})
    learner.step(objective, frozen)
    resumed.step(objective, frozen)
    assert torch.equal(resumed.ram.tensors[""], learner.ram.tensors[""])


def test_the_joint_update_takes_both_gradients_at_the_same_ram():
    objective = ScoreMatching(tiny_denoiser(), prompts(), guidance=4.0, rollout_guidance=3.0)
    frozen = objective.predict_frozen(*states())

    def leaves() -> list[Transform]:
        return [Transform.of({"": random_module(seed).tensors[""].requires_grad_()}) for seed in (1, 2)]

    ram, sam = leaves()
    alone, both = objective.steered_both(frozen, ram, sam)
    ((alone - frozen.target).square().mean() + (both - frozen.plain).square().mean()).backward()
    ram_apart, sam_apart = leaves()
    (objective.steered(frozen, ram_apart) - frozen.target).square().mean().backward()
    (objective.steered(frozen, ram_apart.detach(), sam_apart) - frozen.plain).square().mean().backward()
    for module, apart in ((ram, ram_apart), (sam, sam_apart)):
        torch.testing.assert_close(module.tensors[""].grad, apart.tensors[""].grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", ["constant", "channel", "mlp", "conv"])
def test_every_kind_starts_by_adding_nothing_and_learns(kind):
    objective = ScoreMatching(tiny_denoiser(), prompts(), guidance=4.0, rollout_guidance=3.0)
    learner = Learner(kind, H_SHAPE, ram_rate=1e-2, sam_rate=1e-3, hidden=16)
    frozen = objective.predict_frozen(*states())
    assert all(not module(frozen.h).any() for module in learner.modules)
    losses = [learner.step(objective, frozen).ram_loss.item() for _ in range(40)]
    assert losses[-1] < 0.9 * losses[0]
    assert all(module(frozen.h).any() for module in learner.modules)
    assert [module.kind for module in learner.finished()] == [kind, kind]


def test_a_half_precision_model_teaches_full_precision_vectors():
    denoiser = tiny_denoiser()
    denoiser.unet.to(torch.bfloat16)
    objective = ScoreMatching(denoiser, prompts(), guidance=4.0, rollout_guidance=3.0)
    learner = Learner("constant", H_SHAPE, ram_rate=1e-2, sam_rate=1e-3)
    exact = Learner("constant", H_SHAPE, ram_rate=1e-2, sam_rate=1e-3)
    exact_objective = ScoreMatching(tiny_denoiser(), prompts(), guidance=4.0, rollout_guidance=3.0)
    for _ in range(5):
        result = learner.step(objective, objective.predict_frozen(*states()))
        exact.step(exact_objective, exact_objective.predict_frozen(*states()))
    assert result.steered.dtype == torch.float32
    ram, exactly = learner.finished()[0].tensors[""], exact.finished()[0].tensors[""]
    assert ram.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(ram.flatten(), exactly.flatten(), dim=0) > 0.9


def test_without_sam_ram_is_trained_alone():
    objective = ScoreMatching(tiny_denoiser(), prompts(), guidance=4.0, rollout_guidance=3.0)
    for update in ("sequential", "joint"):
        learner = Learner("constant", H_SHAPE, ram_rate=1e-2, sam_rate=0.0, update=update)
        learner.step(objective, objective.predict_frozen(*states()))
        ram, sam = learner.finished()
        assert ram.tensors[""].any()
        assert not sam.tensors[""].any()


def test_ddim_is_that_of_diffusers():
    theirs = networks.scheduler()
    theirs.set_timesteps(50)
    ours = Schedule.of(theirs.alphas_cumprod, 50)
    assert ours.timesteps.tolist() == theirs.timesteps.tolist()
    z, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for stage in (0, 7, 48, 49):
        expected = theirs.step(noise, theirs.timesteps[stage], z).prev_sample
        torch.testing.assert_close(ours.advance(z, noise, torch.tensor([stage])), expected, rtol=1e-4, atol=1e-5)


def test_a_schedule_too_fine_to_begin_at_noise_is_refused():
    with pytest.raises(ValueError, match="at most 500 steps"):
        Schedule.of(ALPHAS, 600)


def test_guidance_at_one_is_the_positive_prediction():
    negative, positive = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(guided(negative, positive, 1.0), positive)
    torch.testing.assert_close(guided(negative, positive, 3.0), 3 * positive - 2 * negative)
