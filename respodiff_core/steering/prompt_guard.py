"""Keeps fairness from overruling a prompt that says who is shown, and chooses an adapter that fits the prompt.

Reading is by word lists and the adapter's own metadata; it is made to err on the side of leaving a prompt alone. It
reads English. Where a prompt looks like another language it cannot tell whether a group is named, so it steers no
group then. Safety concepts are never touched.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from ..adapter.adapter import Adapter
from ..adapter.concept import ConceptInfo
from .prompt_words import (
    AXES,
    ENGLISH,
    FOREIGN,
    GROUPS,
    LINKS,
    NOT_PEOPLE,
    PEOPLE,
    PERSON_ENDINGS,
    PHRASES,
    SCENES,
    STOPS,
    GroupWords,
)

Kind = Literal["person", "group", "scene"]
"""What a prompt shows (paper, appendix 8.8: one adapter each)."""

_TAGS = re.compile(r"<[^<>]*>|\bembedding:\S+|:\s*[\d.]+|[()\[\]{}]")  # brackets only weigh what they hold
_CLAUSES = re.compile(r"[,.;:!?|\"]+|\n\s*\n|\bBREAK\b|\bAND\b")
_WORDS = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_REACH = 4  # words from an adjective to its person
_FILLERS = frozenset({"person", "people", "human", "race", "racial", "skin", "someone", "looking", "ethnicity"})


@dataclass(frozen=True)
class Prompt:
    """A prompt, taken apart into clauses of lower-case words; weights, LoRA tags and embeddings are left out."""

    text: str

    @cached_property
    def clauses(self) -> tuple[tuple[str, ...], ...]:
        plain = unicodedata.normalize("NFKC", self.text).replace("\u2019", "'")
        parts = _CLAUSES.split(_TAGS.sub(" ", plain))
        clauses = (tuple(map(_plain, _WORDS.findall(part.lower()))) for part in parts)
        return tuple(clause for clause in clauses if clause)

    @cached_property
    def words(self) -> tuple[str, ...]:
        return tuple(word for clause in self.clauses for word in clause)

    @property
    def looks_english(self) -> bool:
        """False for other scripts, and for the common small words of other languages without English ones."""
        letters = {letter for word in self.words for letter in word if letter.isalpha()}
        if any(not unicodedata.name(letter, "").startswith("LATIN") for letter in letters):
            return False
        words = {word.split("'")[0] for word in self.words}  # of an elision ("d'une") what comes first tells
        return not words & FOREIGN or bool(words & ENGLISH)

    @property
    def kind(self) -> Kind:
        """Several people, one person, or neither; a prompt that gives no sign counts as a person's."""
        words = set(self.words)
        if words & GROUPS or any(word.endswith("s") and word[:-1] in PEOPLE for word in words):
            return "group"
        return "scene" if words & SCENES and not any(map(_is_person, words)) else "person"

    def names(self, words: GroupWords) -> str | None:
        """The word by which the prompt names that group; None where it does not."""
        for clause, person in zip(self.clauses, self._first_persons, strict=True):
            for place, word in enumerate(clause):
                if word in words.nouns or (word in words.adjectives and _describes_a_person(clause, place, person)):
                    return word
        return None

    @cached_property
    def _first_persons(self) -> tuple[int, ...]:
        return tuple(map(_first_person, self.clauses))

    def holds(self, phrase: str) -> bool:
        return any(f" {phrase} " in f" {' '.join(clause)} " for clause in self.clauses)


@dataclass(frozen=True)
class Verdict:
    """What the guard found: the adapter to steer with, some of its concepts muted, and why, in sentences."""

    adapter: Adapter
    reasons: tuple[str, ...]

    @property
    def active(self) -> tuple[str, ...]:
        """The concepts that may steer."""
        return tuple(name for name in self.adapter.concepts if name not in self.adapter.muted)


def guard(prompt: str, adapters: Sequence[Adapter], similarities: Sequence[float] | None = None) -> Verdict:
    """The adapter that fits the prompt best, with the concepts muted that the prompt itself decides.

    `similarities` are the prompt's to each adapter's neutral prompt, by a text encoder (paper, appendix 8.8);
    without them the choice is by what the words show: a person, several, or a scene.
    """
    read = Prompt(prompt)
    number, why = _route(read, adapters, similarities)
    adapter = adapters[number]
    muted = _muted(read, [concept.info for concept in adapter.concepts.values()])
    reasons = [why] if why else []
    by_reason: dict[str, list[str]] = {}
    for name, reason in muted.items():
        by_reason.setdefault(reason, []).append(name)
    reasons += [f"{', '.join(names)}: {reason}" for reason, names in by_reason.items()]
    return Verdict(replace(adapter, muted=adapter.muted | frozenset(muted)), tuple(reasons))


def neutral_kind(adapter: Adapter) -> Kind:
    """What the adapter's neutral prompts show: that is what it was trained to steer."""
    return Prompt(neutral_prompt(adapter)).kind


def neutral_prompt(adapter: Adapter) -> str:
    """The neutral prompt of the adapter's first concept that has one."""
    neutrals = (concept.info.neutral for concept in adapter.concepts.values())
    return next(filter(None, neutrals), "a person").split(" | ")[0]


def _route(prompt: Prompt, adapters: Sequence[Adapter], similarities: Sequence[float] | None) -> tuple[int, str]:
    if len(adapters) == 1:
        return 0, ""
    if similarities is not None:
        number = max(range(len(adapters)), key=similarities.__getitem__)
        return number, (
            f"{adapters[number].source}: its neutral prompt {neutral_prompt(adapters[number])!r} is the closest "
            f"(similarity {similarities[number]:.2f})."
        )
    kinds = [neutral_kind(adapter) for adapter in adapters]
    number = kinds.index(prompt.kind) if prompt.kind in kinds else 0
    return number, f"{adapters[number].source}: the prompt shows a {prompt.kind}."


def _muted(prompt: Prompt, infos: Sequence[ConceptInfo]) -> dict[str, str]:
    """The fairness concepts that must not steer, and why."""
    fairness = [info for info in infos if info.category != "safety"]
    if not prompt.looks_english:
        why = "the prompt does not look English, so whether it names a group cannot be told."
        return {info.name: why for info in fairness}
    if prompt.kind == "scene":
        scenes = {info.name for info in fairness if Prompt(info.neutral).kind == "scene" and info.neutral}
        return {info.name: "the prompt shows no person." for info in fairness if info.name not in scenes}
    axes = {info.name: axis_of(info) for info in fairness}
    muted: dict[str, str] = {}
    for axis in dict.fromkeys(axes.values()):
        mine = [info for info in fairness if axes[info.name] == axis]
        if said := _named(prompt, axis, mine):
            muted |= {info.name: f"the prompt says {said!r}." for info in mine}
    return muted


def _named(prompt: Prompt, axis: str, infos: Sequence[ConceptInfo]) -> str | None:
    """The word or phrase by which the prompt settles an axis."""
    for words in (*AXES.get(axis, {}).values(), *map(_own_words, infos)):
        if said := prompt.names(words):
            return said
    phrases = (*PHRASES.get(axis, ()), *(word for info in infos for word in info.synonyms))
    return next((phrase for phrase in phrases if prompt.holds(" ".join(Prompt(phrase).words))), None)


def axis_of(info: ConceptInfo) -> str:
    """What the concept's group is one of: as its file says, else by its words; else the groups of its file."""
    if info.axis:
        return info.axis.casefold()
    own = {word for clause in Prompt(f"{info.name}, {info.target}").clauses for word in clause}
    neutral = set(Prompt(info.neutral).words)
    for axis, groups in AXES.items():
        for name, words in groups.items():
            if (own - neutral) & ({name} | words.nouns | words.adjectives):
                return axis
    return "groups"


def _own_words(info: ConceptInfo) -> GroupWords:
    """What the target says beyond the neutral prompt; adjectives where a person follows."""
    neutral = set(Prompt(info.neutral).words) | STOPS | _FILLERS
    nouns: set[str] = set()
    adjectives: set[str] = set()
    for clause in Prompt(info.target).clauses:
        person = _first_person(clause)
        for place, word in enumerate(clause):
            if word not in neutral:
                (adjectives if _describes_a_person(clause, place, person) else nouns).add(word)
    if not info.target:
        nouns |= set(Prompt(info.name).words) - neutral
    return GroupWords(frozenset(nouns), frozenset(adjectives))


def _first_person(clause: tuple[str, ...]) -> int:
    """The place of the first word for a person; behind the clause where there is none."""
    return next((place for place, word in enumerate(clause) if _is_person(word)), len(clause))


def _describes_a_person(clause: tuple[str, ...], place: int, first_person: int) -> bool:
    """Whether the adjective there belongs to a person: "white male doctor", "a nurse who is white"."""
    after = clause[place + 1 : place + 1 + _REACH]
    for step, word in enumerate(after):
        if _is_person(word):
            return True
        joins = word in ("and", "or") and step + 1 < len(after) and after[step + 1] not in STOPS
        if word in STOPS and not joins:
            break
    before = clause[max(place - 3, 0) : place]
    return first_person < place and any(word in LINKS for word in before)


def _is_person(word: str) -> bool:
    if word in PEOPLE or word in _GROUP_NOUNS or word in GROUPS or (word.endswith("s") and word[:-1] in PEOPLE):
        return True
    return len(word) > 4 and word.endswith(PERSON_ENDINGS) and word not in NOT_PEOPLE


def _plain(word: str) -> str:
    """Without the possessive: a woman's hand is a woman's."""
    return word.removesuffix("'s") or word


def _all_nouns(axes: Mapping[str, Mapping[str, GroupWords]]) -> Iterator[str]:
    for groups in axes.values():
        for words in groups.values():
            yield from words.nouns


_GROUP_NOUNS = frozenset(_all_nouns(AXES)) - {"her", "his", "hers", "him"}
