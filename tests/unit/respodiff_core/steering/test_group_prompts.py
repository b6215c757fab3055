"""Prompts that name a group: where the words go, which prompts are left alone, and how groups are written."""

from __future__ import annotations

from collections import Counter

import pytest
from respodiff.respodiff_core.errors import RespoDiffError
from respodiff.respodiff_core.steering.group_prompts import PromptGroup, groups_of, image_prompts, naming


@pytest.mark.parametrize(
    ("prompt", "words", "expected"),
    [
        ("a photo of a doctor", "female", "a photo of a female doctor"),
        ("a photo of an engineer smiling", "female", "a photo of a female engineer smiling"),
        ("A doctor", "old", "An old doctor"),
        ("portrait of a tall software developer, 85mm", "male", "portrait of a male tall software developer, 85mm"),
        ("doctor, portrait", "female", "female doctor, portrait"),
        ("a photo of doctors", "female", "a photo of female doctors"),
        ("two nurses", "male", "two male nurses"),
        ("(a doctor:1.2) in a park", "East Asian", "(an East Asian doctor:1.2) in a park"),
        ("<lora:person:1> a nurse", "male", "<lora:person:1> a male nurse"),
        ("a photo of a cat", "red", "a photo of a cat, red"),
        ("a photo of a cat.", "red", "a photo of a cat, red"),
        ("an {} doctor", "female", "a female doctor"),
        ("a {} doctor and a {} nurse", "old", "an old doctor and an old nurse"),
        ("", "a photo of a female doctor", "a photo of a female doctor"),
    ],
)
def test_where_the_words_go(prompt, words, expected):
    assert naming(prompt, words) == expected


@pytest.mark.parametrize(
    ("line", "group"),
    [
        ("female", PromptGroup("female", "female")),
        ("woman: female", PromptGroup("woman", "female")),
        (" woman : female = 2 ", PromptGroup("woman", "female", 2.0)),
        ("female=.5", PromptGroup("female", "female", 0.5)),
        ("(female:1.2)", PromptGroup("female", "(female:1.2)")),
        ("embedding:her person", PromptGroup("her person", "embedding:her person")),
        ("woman: a (female:1.1) doctor", PromptGroup("woman", "a (female:1.1) doctor")),
    ],
)
def test_how_a_group_is_written(line, group):
    assert groups_of(line) == (group,)


@pytest.mark.parametrize("text", ["", " \n", "female = much", "= 2", "a: x\na: y"])
def test_lines_that_are_no_groups_are_a_sentence(text):
    with pytest.raises(RespoDiffError):
        groups_of(text)


GENDER = groups_of("female\nmale")


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        ("a photo of a male doctor", "the prompt says 'male'."),
        ("a waitress", "the prompt says 'waitress'."),
        ("a mountain landscape", "the prompt shows no person."),
        ("una foto de un médico", "the prompt does not appear to be English"),
    ],
)
def test_a_prompt_that_is_not_open_is_left_alone(prompt, why):
    prompts, reason = image_prompts(prompt, GENDER, 4, 0)
    assert reason.startswith(why)
    assert {(one.text, one.group) for one in prompts} == {(prompt, "none")}
    unguarded, reason = image_prompts(prompt, GENDER, 4, 0, guarded=False)
    assert not reason
    assert Counter(one.group for one in unguarded) == {"female": 2, "male": 2}


def test_groups_of_other_things_than_people_are_named_in_scenes():
    prompts, reason = image_prompts("a photo of a {} house", groups_of("red\nblue"), 2, 0)
    assert {one.text for one in prompts} == {"a photo of a red house", "a photo of a blue house"}
    prompts, reason = image_prompts("a photo of a house", groups_of("red\nblue"), 2, 0)
    assert not reason
    assert {one.group for one in prompts} == {"red", "blue"}


def test_shares_are_met_exactly_over_runs_with_images_left_as_they_are():
    groups = groups_of("female = 2\nmale = 1")
    counts: Counter[str] = Counter()
    for seed in range(4):
        counts += Counter(one.group for one in image_prompts("a doctor", groups, 3, seed, none_share=1.0)[0])
    assert counts == {"female": 6, "male": 3, "none": 3}


def test_the_place_disappears_where_no_group_is_named():
    prompts, _ = image_prompts("a photo of a {} doctor", groups_of("female = 0\nmale = 0"), 2, 0, none_share=1.0)
    assert {one.text for one in prompts} == {"a photo of a doctor"}
