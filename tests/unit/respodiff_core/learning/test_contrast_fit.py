"""Contrast concepts from a model: what is measured, fitted and refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from respodiff.respodiff_core.adapter.contrast import ContrastConcept
from respodiff.respodiff_core.errors import ContrastError
from respodiff.respodiff_core.learning.contrast import ContrastFit
from respodiff.respodiff_core.learning.contrast_presets import CONTRASTS, contrast_values
from respodiff.respodiff_core.learning.contrast_settings import ContrastSettings, in_context
from respodiff.respodiff_core.learning.denoiser import Condition
from respodiff.trainer.worlds.protocols import PROFESSIONS
from tiny_unets import ALPHAS, tiny_denoiser

CHANNELS = 8
LATENT = (4, 4)
WOMAN, MAN = 1.0, -1.0
PAIR = {"groups": {"woman": "a woman", "man": "a man"}, "contexts": ("{}", "a photo of {}"), "schedule_steps": 4}


class Affine:
    """A model with one cross-attention layer, whose output for a group is a known map of rank one away from that for
    the neutral prompt.
    """

    attention_sites: Sequence[str] = ("input.1.0",)

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.direction, self.reading = torch.randn(2, CHANNELS, generator=generator)
        self.direction /= self.direction.norm()
        self.calls: list[int] = []
        self._record: Callable[[str, torch.Tensor], None] | None = None

    @contextmanager
    def attending(self, attend: Callable[[str, torch.Tensor], torch.Tensor | None]) -> Iterator[None]:
        self._record = attend
        yield
        self._record = None

    def predict(self, z: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        self.calls.append(len(z))
        tokens = z.flatten(2).mT
        x = torch.cat([tokens, tokens.flip(-1) ** 2], -1)
        group = condition.context[:, 0, 0].view(-1, 1, 1)
        share = group * (0.7 + x @ self.reading)[..., None]
        assert self._record is not None
        self._record("input.1.0", x + share * self.direction)
        return 0.1 * z


def encode(texts: Sequence[str]) -> Condition:
    of = [WOMAN * ("woman" in text) + MAN * (" man" in text) for text in texts]
    return Condition(torch.tensor(of)[:, None, None])


def fit(model: Affine, **changes: object) -> ContrastFit:
    return ContrastFit(model, ALPHAS, ContrastSettings(**{**PAIR, **changes}), encode, latent=LATENT)


def concepts_of(one: ContrastFit) -> list[ContrastConcept]:
    assert list(one) == list(range(1, one.steps + 1))
    return one.finished()


class TestFit:
    def test_it_finds_the_map_between_the_groups(self):
        model = Affine()
        woman, man = concepts_of(fit(model, seeds=8, ridge=1e-6))
        assert (woman.name, man.name, woman.operation) == ("woman", "man", "move")
        for concept, sign in ((woman, WOMAN), (man, MAN)):
            found = concept.layers["input.1.0"]["set"]
            direction, reading = found.direction[0, 0, :, 0, 0], found.reading[0, 0, :, 0, 0]
            torch.testing.assert_close(direction * found.level[0], sign * 0.7 * model.direction, rtol=1e-3, atol=1e-3)
            expected = sign * torch.outer(model.direction, model.reading)
            torch.testing.assert_close(torch.outer(direction, reading), expected, rtol=1e-2, atol=1e-2)
        cleared = woman.layers["input.1.0"]["clear"]
        assert cleared.level.abs().max() < 1e-4
        assert cleared.reading.abs().max() < 1e-4

    def test_what_is_cleared_has_a_dimension_less_than_there_are_groups(self):
        groups = {"woman": "a woman", "man": "a man", "other": "another man"}
        concepts = concepts_of(fit(Affine(), groups=groups))
        assert {one.layers["input.1.0"]["clear"].level.shape for one in concepts} == {(1, 2)}
        assert {one.layers["input.1.0"]["set"].level.shape for one in concepts} == {(1, 1)}

    def test_a_safety_concept_points_away(self):
        model = Affine()
        words = {"groups": {"violence": "a woman"}, "category": "safety"}
        (concept,) = concepts_of(fit(model, **words, seeds=8, ridge=1e-6))
        assert (concept.operation, concept.info.negative, concept.info.target) == ("add", "a woman", "")
        found = concept.layers["input.1.0"]["set"]
        constant = found.level[0] @ found.direction[0, :, :, 0, 0]
        torch.testing.assert_close(constant, -0.7 * model.direction, rtol=1e-3, atol=1e-3)

    def test_every_evaluation_is_one_that_was_announced(self):
        model = Affine()
        one = fit(model, seeds=7)
        concepts_of(one)
        assert sum(model.calls) == one.settings.evaluations == 2 * 4 * 7 * 4
        assert max(model.calls) <= 16

    def test_parts_have_vectors_of_their_own(self):
        woman, _ = concepts_of(fit(Affine(), parts=3))
        assert woman.layers["input.1.0"]["set"].direction.shape == (3, 1, CHANNELS, 1, 1)
        assert len(woman.sigmas) == 2
        assert woman.sigmas[0] > woman.sigmas[1] > 0

    def test_it_is_the_same_every_time_and_on_a_real_unet(self):
        denoiser = tiny_denoiser()
        width = denoiser.unet.config.cross_attention_dim

        def encode_words(texts: Sequence[str]) -> Condition:
            rows = [
                torch.randn(5, width, generator=torch.Generator().manual_seed(sum(map(ord, text)))) for text in texts
            ]
            return Condition(torch.stack(rows))

        def made() -> list[ContrastConcept]:
            settings = ContrastSettings(**{**PAIR, "schedule_steps": 2, "seeds": 2})
            return concepts_of(ContrastFit(denoiser, ALPHAS, settings, encode_words, latent=(8, 8)))

        first, again = made(), made()
        assert list(first[0].sites) == denoiser.attention_sites
        for one, other in zip(first, again, strict=True):
            assert all(torch.equal(other.tensors()[name], tensor) for name, tensor in one.tensors().items())


class TestRefusals:
    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"groups": {}}, "there is no group"),
            ({"groups": {"woman": "a woman"}, "operation": "move"}, "there is only one group"),
            ({"groups": {"woman": "a woman", "lady": "a woman"}}, "the prompts must all differ"),
            ({"groups": {"woman": "a person", "man": "a man"}}, "the prompts must all differ"),
            ({"groups": {"woman": " ", "man": "a man"}}, "the words of group 'woman' are empty"),
            ({"groups": {str(n): f"person {n}" for n in range(64)}}, "there are 64 groups; at most 16"),
            ({"contexts": ("a photo",)}, "a context has no {}"),
            ({"contexts": ()}, "a context has no {}"),
            ({"parts": 9, "schedule_steps": 4}, "the schedule has 4 steps, fewer than 9 parts"),
            ({"category": "safety", "operation": "move"}, "safety concepts are added"),
        ],
    )
    def test_settings_that_contrast_nothing(self, wrong, said):
        with pytest.raises(ValueError, match=said):
            ContrastSettings(**{**PAIR, **wrong})

    def test_words_that_make_no_difference(self):
        for groups in ({"woman": "a woman", "lady": "one woman"}, {"cat": "a cat", "dog": "a dog"}):
            with pytest.raises(ContrastError, match=f"words of group '{next(iter(groups))}' make no difference"):
                concepts_of(fit(Affine(), groups=groups))

    def test_a_model_without_cross_attention(self):
        model = Affine()
        model.attention_sites = ()
        with pytest.raises(ContrastError, match="has no cross-attention layers"):
            fit(model)

    def test_a_model_that_gives_nan(self):
        model = Affine()
        model.direction = model.direction * float("nan")
        with pytest.raises(ContrastError, match="NaN or infinity"):
            concepts_of(fit(model))


def test_an_article_fits_the_word_after_it():
    assert in_context("a photo of a {} doctor", "amber") == "a photo of an amber doctor"
    assert in_context("an {} doctor", "teal") == "a teal doctor"
    assert in_context("a {} person", "") == "a person"
    assert in_context("{} at home", "an old person") == "an old person at home"


class TestPresets:
    @pytest.mark.parametrize("name", CONTRASTS)
    def test_each_is_a_contrast(self, name):
        settings = ContrastSettings(**contrast_values(name))
        assert settings.operation == ("add" if settings.category == "safety" else "move")

    def test_no_context_has_a_profession_that_fairness_is_measured_on(self):
        equisteer = ("CEO", "doctor", "pilot", "technician", "teacher", "librarian", "nurse", "fashion designer")
        for name in ("gender", "race", "age"):
            for context in CONTRASTS[name]["contexts"]:
                assert not [one for one in (*PROFESSIONS, *equisteer) if f" {one.lower()}" in context.lower()]

    def test_a_typo_is_told_the_closest(self):
        with pytest.raises(ValueError, match="did you mean gender"):
            contrast_values("gendre")
