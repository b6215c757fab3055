"""Where training states come from: uniform over the schedule, on-policy, the same however processes share them."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from respodiff.respodiff_core.adapter.transforms import Transform
from respodiff.respodiff_core.learning.diffusion import Schedule
from respodiff.respodiff_core.learning.learner import Learner
from respodiff.respodiff_core.learning.objective import Prompts, ReferenceScoreMatching, ScoreMatching
from respodiff.respodiff_core.learning.trajectories import (
    FreshRollouts,
    Pool,
    ProcessShard,
    RolloutConfig,
    steps_before_training,
)
from respodiff.trainer.run.unet_evaluations import counting
from tiny_unets import ALPHAS, H_SHAPE, LATENT, random_condition, tiny_denoiser

STEPS, STATES = 10, 9
SCHEDULE = Schedule.of(ALPHAS, STEPS)
NEUTRALS = (1, 2)


def objective(kind=ScoreMatching) -> ScoreMatching:
    prompts = Prompts(random_condition(4), empty=0, neutrals=NEUTRALS, positive=3, negative=0)
    return kind(tiny_denoiser(), prompts, guidance=4.0, rollout_guidance=3.0)


def config(batch: int, shard: ProcessShard | None = None) -> RolloutConfig:
    return RolloutConfig(SCHEDULE, states=STATES, batch=batch, latent=LATENT, seed=5, shard=shard or ProcessShard())


def pool(of: ScoreMatching, size: int = 6, batch: int = 2, shard: ProcessShard | None = None) -> Pool:
    return Pool(of, config(batch, shard), size)


def learner() -> Learner:
    return Learner("constant", H_SHAPE, ram_rate=1e-2, sam_rate=1e-3)


def run(source, of: ScoreMatching, learning: Learner, steps: int, first: int = 1):
    batches = []
    for step in range(first, first + steps):
        batch = source.next(step, learning.modules)
        frozen = of.predict_frozen(batch.z, batch.t, batch.neutral)
        source.advance(frozen, learning.step(of, frozen).steered)
        batches.append(batch)
    return batches


def test_the_states_trained_on_are_uniform_over_the_schedule():
    of = objective()
    batches = run(pool(of), of, learner(), steps=3 * STATES)
    counted = Counter(int(t) for batch in batches for t in batch.t)
    assert counted == dict.fromkeys(SCHEDULE.timesteps[:STATES].tolist(), 6)
    spread = [(batch.t.max() - batch.t.min()).item() for batch in batches]
    assert min(spread) >= 400, "the states of one batch lie far apart"


def test_the_pool_walks_the_path_of_the_sampler():
    """The states that one trajectory passes are those of plain guided DDIM steered by the same modules."""
    of, learning = objective(), Learner("constant", H_SHAPE, ram_rate=1e-12, sam_rate=1e-12)
    vector = torch.randn(H_SHAPE, generator=torch.Generator().manual_seed(1))
    learning.load_state({"ram/": vector, "sam/": torch.zeros(H_SHAPE)})
    batches = run(pool(of, size=1, batch=1), of, learning, steps=STATES)
    z = batches[0].z
    for stage, batch in enumerate(batches):
        torch.testing.assert_close(batch.z, z, rtol=1e-4, atol=1e-4)
        assert batch.t.item() == SCHEDULE.timesteps[stage]
        noise = of.rollout_noise(z, batch.t, batch.neutral, [Transform.of({"": vector})])
        z = SCHEDULE.advance(z, noise, torch.tensor([stage]))


def test_a_finished_trajectory_is_born_again_from_new_noise():
    of = objective()
    batches = run(pool(of, size=1, batch=1), of, learner(), steps=4 * STATES)
    births = [batch for batch in batches if batch.t.item() == SCHEDULE.timesteps[0]]
    assert len(births) == 4
    assert not torch.equal(births[0].z, births[1].z)
    assert abs(torch.stack([birth.z for birth in births]).std().item() - 1) < 0.1
    assert {birth.neutral.item() for birth in births} <= set(NEUTRALS)


def test_all_neutral_prompts_are_drawn():
    of = objective()
    batches = run(pool(of, size=4, batch=4), of, learner(), steps=3 * STATES)
    assert {int(neutral) for batch in batches for neutral in batch.neutral} == set(NEUTRALS)


def test_each_trajectory_of_a_pool_begins_from_noise_of_its_own():
    of = objective()
    (batch,) = run(pool(of, size=3, batch=3), of, learner(), steps=1)
    assert batch.t.tolist() == SCHEDULE.timesteps[[0, 3, 6]].tolist()
    assert (torch.corrcoef(batch.z.flatten(1)) - torch.eye(3)).abs().max() < 0.5


def test_the_first_trajectories_are_led_to_their_states_in_long_steps():
    of, size = objective(), 6
    long = RolloutConfig(Schedule.of(ALPHAS, 50), states=49, batch=3, latent=LATENT, seed=5)
    with counting(of.denoiser.unet) as evaluations:
        batch = Pool(of, long, size).next(1, learner().modules)
    assert batch.t.tolist() == long.schedule.timesteps[[8, 24, 40]].tolist()
    assert evaluations.total == 2 * steps_before_training(size, states=49)
    assert evaluations.total < 2 * 49, "all of them together cost less than one trajectory in full"


def test_a_step_of_any_length_leads_to_the_same_picture():
    clean, noise = torch.randn(2, 3, 4, *LATENT, generator=torch.Generator().manual_seed(2))
    at, steps = torch.tensor([0, 2, 4]), torch.tensor([1, 3, 5])

    def noisy(state):
        alpha = SCHEDULE.alphas[state].view(-1, 1, 1, 1)
        return alpha.sqrt() * clean + (1 - alpha).sqrt() * noise

    torch.testing.assert_close(SCHEDULE.advance(noisy(at), noise, at, steps), noisy(at + steps), rtol=1e-4, atol=1e-4)


def test_two_processes_share_the_trajectories_of_one():
    of = objective()
    (whole,) = run(pool(of, size=8, batch=4), of, learner(), steps=1)
    halves = [run(pool(of, 4, 2, ProcessShard(index, 2)), of, learner(), steps=1)[0] for index in range(2)]
    torch.testing.assert_close(torch.cat([half.z for half in halves]), whole.z, rtol=1e-4, atol=1e-4)
    assert [*halves[0].t.tolist(), *halves[1].t.tolist()] == whole.t.tolist()


def test_a_pool_goes_on_from_its_state_exactly():
    of = objective()
    one = pool(of)
    run(one, of, learner(), steps=7)
    other = pool(of)
    other.load_state({name: tensor.clone() for name, tensor in one.state().items()})
    a = run(one, of, learner(), steps=STATES, first=8)
    b = run(other, of, learner(), steps=STATES, first=8)
    assert all(torch.equal(x.z, y.z) and torch.equal(x.t, y.t) for x, y in zip(a, b, strict=True))


def test_the_reference_rolls_out_anew_and_throws_away():
    of = objective(ReferenceScoreMatching)
    source = FreshRollouts(of, config(batch=1))
    costs, steps = [], []
    for step in range(1, 13):
        with counting(of.denoiser.unet) as evaluations:
            (batch,) = run(source, of, learner(), steps=1, first=step)
        costs.append(evaluations.total)
        steps.append(SCHEDULE.timesteps.tolist().index(int(batch.t)))
    # Two evaluations a rollout step, then target 2, neutral 2, RAM 2 and SAM 2 with a backward pass each.
    assert costs == [2 * k + 10 for k in steps]
    assert len(set(steps)) > 3


def test_a_pool_that_its_batch_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="pool of 6"):
        pool(objective(), size=6, batch=4)
