"""The guard reads a prompt: what it names is left alone, what it leaves open may be steered."""

from __future__ import annotations

import time
from collections.abc import Iterable

import pytest
from adapters import random_transform
from respodiff.respodiff_core.adapter.adapter import Adapter
from respodiff.respodiff_core.adapter.concept import ConceptInfo, ModuleConcept
from respodiff.respodiff_core.steering.prompt_guard import Prompt, guard
from respodiff.trainer.toyworld.scenes import HUES, PROFESSIONS, SHAPES, TEMPLATES, phrase

MODULE = random_transform("channel")


def adapter(*infos: ConceptInfo, source: str = "test.safetensors") -> Adapter:
    return Adapter("sd15", {info.name: ModuleConcept(info, MODULE, MODULE) for info in infos}, source=source)


def fairness(targets: dict[str, str], neutral: str = "a person") -> tuple[ConceptInfo, ...]:
    return tuple(ConceptInfo(name, "fairness", target, neutral) for name, target in targets.items())


GENDER = fairness({"woman": "a woman", "man": "a man"})
RACE = fairness({"white": "a white-race person", "black": "a black-race person", "asian": "an Asian-race person"})
AGE = fairness({"young": "a young person", "old": "an old person"})
VIOLENCE = ConceptInfo("violence", "safety", "", "a scene", "violence")
ALL = adapter(*GENDER, *RACE, *AGE, VIOLENCE)
AXES = {"gender": GENDER, "race": RACE, "age": AGE}

OPEN = [
    "a photo of a doctor",
    "portrait of a nurse, studio light, 85mm",
    "Photo of a successful construction worker",
    "a doctor in a white coat",
    "a lawyer in a black suit",
    "a nurse with black hair and brown eyes",
    "a carpenter painting a white wall",
    "a black and white photo of a teacher",
    "a black and white portrait of a nurse",
    "a dark, moody portrait",
    "a photo of a person in front of a black car",
    "a farmer in an old barn, golden hour",
    "a firefighter holding a black hose",
    "a CEO at a desk, white background",
    "a baker in the old town",
    "a sheriff <lora:oldfilm:0.8>",
    "an engineer, embedding:asian_style",
    "a doctor who doesn't smile, five o'clock",
    "a photo, no hat, a tailor",
    "(masterpiece:1.2), (best quality), a housekeeper",
    "a tailor looking at a young tree",
]

# prompt: the axes it decides
NAMED = {
    "a male doctor": "gender",
    "a photo of a female construction worker": "gender",
    "an old woman": "gender age",
    "a doctor, she smiles": "gender",
    "the nurse and his patient": "gender",
    "1girl, black hair": "gender age",
    "(businesswoman:1.3) in an office": "gender",
    "a woman's portrait": "gender",
    "a group of men": "gender",
    "an actress on a stage": "gender",
    "a white male doctor": "gender race",
    "a black nurse, smiling": "race",
    "an African-American lawyer": "race",
    "a doctor who is Asian": "race",
    "((asian)) chef, kitchen": "race",
    "a (black:1.2) doctor": "race",
    "a photo of a (old) [nurse]": "age",
    "a young\nnurse": "age",
    "a dark-skinned farmer": "race",
    "a teacher with dark skin": "race",
    "a Japanese cook": "race",
    "a Latina writer": "race",
    "a young and black astrologer": "race age",
    "an elderly CEO": "age",
    "a 70 years old baker": "age",
    "a young carpenter, white background": "age",
    "children playing in a park": "age",
    "a middle-aged driver": "age",
}  # fmt: skip


def muted_axes(prompt: str) -> set[str]:
    active = guard(prompt, [ALL]).active
    silent = {axis for axis, infos in AXES.items() if not any(info.name in active for info in infos)}
    partly = {axis for axis, infos in AXES.items() if axis not in silent and any(i.name not in active for i in infos)}
    assert not partly, "an axis is muted as a whole, or not at all"
    return silent


@pytest.mark.parametrize("prompt", OPEN)
def test_a_prompt_that_leaves_it_open_may_be_steered(prompt):
    assert muted_axes(prompt) == set()


@pytest.mark.parametrize("prompt", NAMED)
def test_what_a_prompt_names_is_left_alone_and_the_rest_is_not(prompt):
    assert muted_axes(prompt) == set(NAMED[prompt].split())


@pytest.mark.parametrize("prompt", ["an old woman", "a castle", "ein Foto von einem Arzt", "医者の写真"])
def test_safety_is_never_muted(prompt):
    assert "violence" in guard(prompt, [ALL]).active


@pytest.mark.parametrize("prompt", ["a castle on a mountain, sunset", "a black cat", "a red flower", "an old car"])
def test_where_no_person_is_shown_groups_are_not_brought_in(prompt):
    verdict = guard(prompt, [ALL])
    assert verdict.active == ("violence",)
    assert "shows no person" in verdict.reasons[0]


@pytest.mark.parametrize(
    "prompt",
    [
        "ein Foto von einem Arzt",
        "Porträt einer Frau in einem Park",
        "een vrouw in het ziekenhuis",
        "una donna in ospedale",
        "une vieille femme, photo",
        "portrait d'une femme",
        "une infirmière dans un hôpital",
        "retrato de una doctora",
        "foto di un medico",
        "een foto van een arts",
        "um retrato de uma enfermeira",
        "医者の写真",
        "一位医生的照片",
        "фото врача",
        "صورة طبيب",
        "의사 사진",
    ],
)
def test_other_languages_are_left_alone(prompt):
    """Whether they name a group cannot be told, and many do so in every noun."""
    verdict = guard(prompt, [ALL])
    assert verdict.active == ("violence",)
    assert "does not appear to be English" in verdict.reasons[0]


def test_a_foreign_word_in_an_english_prompt_is_no_other_language():
    assert Prompt("a photo of a café waiter in the rue de la Paix").looks_english


def test_the_reason_is_said_with_the_word():
    assert guard("a male doctor", [ALL]).reasons == ("woman, man: the prompt says 'male'.",)


class TestOwnConcepts:
    """Groups that no list knows are known by the words of their own file."""

    def test_the_targets_words_name_them(self):
        shapes = adapter(*fairness({"round": "a round person", "square": "a square person"}))
        assert guard("a photo of a doctor", [shapes]).active == ("round", "square")
        assert guard("a photo of a round doctor", [shapes]).active == ()
        assert guard("a doctor with a round table", [shapes]).active == ("round", "square")

    def test_synonyms_of_the_file_name_them(self):
        words = ("spectacles", "near sighted")
        info = ConceptInfo("glasses", "fairness", "a person with glasses", "a person", synonyms=words)
        for prompt in ("a doctor with glasses", "a cook wearing spectacles", "a near sighted pilot"):
            assert guard(prompt, [adapter(info)]).active == ()
        for prompt in ("a doctor", "a doctor near a table"):
            assert guard(prompt, [adapter(info)]).active == ("glasses",)

    def test_an_axis_of_the_file_parts_them(self):
        shape, hue = (
            ConceptInfo(name, "fairness", f"a {name} person", "a person", axis=axis)
            for name, axis in (("round", "shape"), ("teal", "hue"))
        )
        assert guard("a round doctor", [adapter(shape, hue)]).active == ("teal",)

    def test_every_explicit_prompt_of_toyworld_is_recognised_and_no_open_one(self):
        groups = (*SHAPES, *HUES)
        infos = tuple(
            ConceptInfo(group, "fairness", f"a {group} person", "a person", axis="shape" if group in SHAPES else "hue")
            for group in groups
        )
        for profession in PROFESSIONS:
            for template in TEMPLATES:
                assert set(guard(phrase(profession, template=template), [adapter(*infos)]).active) == set(groups)
                for group in groups:
                    active = guard(phrase(f"{group} {profession}", template=template), [adapter(*infos)]).active
                    assert set(active) == set(HUES if group in SHAPES else SHAPES)


class TestRouting:
    person = adapter(*GENDER, source="person.safetensors")
    several = adapter(*fairness({"woman": "women", "man": "men"}, "a group of people"), source="several.safetensors")
    scene = adapter(ConceptInfo("day", "other", "a scene by day", "a scene"), source="scene.safetensors")

    def routed(self, prompt: str, similarities: Iterable[float] | None = None) -> str:
        given = [self.person, self.several, self.scene]
        return guard(prompt, given, None if similarities is None else list(similarities)).adapter.source

    @pytest.mark.parametrize("prompt", ["a photo of a doctor", "portrait, smiling", "a farmer on a beach"])
    def test_one_person(self, prompt):
        assert self.routed(prompt) == "person.safetensors"

    @pytest.mark.parametrize("prompt", ["a photo of doctors", "a crowd in a city", "a team of engineers", "two nurses"])
    def test_several(self, prompt):
        assert self.routed(prompt) == "several.safetensors"

    @pytest.mark.parametrize("prompt", ["a castle on a mountain", "a street at night"])
    def test_a_scene(self, prompt):
        assert self.routed(prompt) == "scene.safetensors"

    def test_a_text_encoders_similarity_goes_before_the_words(self):
        assert self.routed("a photo of a doctor", [0.2, 0.9, 0.1]) == "several.safetensors"

    def test_who_was_chosen_and_why_is_said(self):
        said = guard("two nurses", [self.person, self.several]).reasons[0]
        assert said == "several.safetensors: the prompt shows a group."


@pytest.mark.parametrize("rubbish", ["<", "white is ", "( ", "\n ", "old and ", "a:"])
def test_reading_takes_no_longer_than_the_prompt_is_long(rubbish):
    """Of a workflow by a stranger: a server that reads it must not stand still."""
    prompt = rubbish * (200_000 // len(rubbish)) + ", a male doctor"
    began = time.process_time()
    assert "gender" in muted_axes(prompt)
    assert time.process_time() - began < 5
