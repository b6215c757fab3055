"""Keeps fairness steering from overriding a prompt that names a group, and selects an adapter that fits the prompt.

Prompts are analysed with word lists and the metadata of the adapter. In doubt, concepts are muted rather than steered.
Only English is supported: in a prompt that appears to be in another language it is unknown whether a group is named, so
all groups are muted. Safety concepts are never muted.
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
"""The subject of a prompt (arXiv 2509.15257, appendix 8.8: one adapter for each)."""

_TAGS = re.compile(r"<[^<>]*>|\bembedding:\S+|:\s*[\d.]+|[()\[\]{}]")  # brackets only set weights
_CLAUSES = re.compile(r"[,.;:!?|\"]+|\n\s*\n|\bBREAK\b|\bAND\b")
_WORDS = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_REACH = 4  # maximum number of words between an adjective and its person
_FILLERS = frozenset({"person", "people", "human", "race", "racial", "skin", "someone", "looking", "ethnicity"})


@dataclass(frozen=True)
class Prompt:
    """A prompt, split into clauses of lower-case words without weights, LoRA tags and embeddings."""

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
        """False for other scripts, and for prompts with common words of other languages and none of English."""
        letters = {letter for word in self.words for letter in word if letter.isalpha()}
        if any(not unicodedata.name(letter, "").startswith("LATIN") for letter in letters):
            return False
        words = {word.split("'")[0] for word in self.words}  # only the first part of an elision ("d'une")
        return not words & FOREIGN or bool(words & ENGLISH)

    @property
    def kind(self) -> Kind:
        """Whether the prompt shows several people, one person or neither. The default is one person."""
        words = set(self.words)
        if words & GROUPS or any(word.endswith("s") and word[:-1] in PEOPLE for word in words):
            return "group"
        return "scene" if words & SCENES and not any(map(_is_person, words)) else "person"

    def names(self, words: GroupWords) -> str | None:
        """The word in the prompt that names this group; None if there is none."""
        for clause, person in zip(self.clauses, self._first_persons, strict=True):
            for place, word in enumerate(clause):
                if word in words.nouns or (word in words.adjectives and _describes_a_person(clause, place, person)):
                    return word
        return None

    @cached_property
    def _first_persons(self) -> tuple[int, ...]:
        return tuple(map(_first_person, self.clauses))

    def contains(self, phrase: str) -> bool:
        return any(f" {phrase} " in f" {' '.join(clause)} " for clause in self.clauses)


@dataclass(frozen=True)
class Verdict:
    """The result: the adapter to steer with, with some concepts muted, and the reasons as sentences."""

    adapter: Adapter
    reasons: tuple[str, ...]

    @property
    def active(self) -> tuple[str, ...]:
        """The concepts that are not muted."""
        return tuple(name for name in self.adapter.concepts if name not in self.adapter.muted)


def guard(prompt: str, adapters: Sequence[Adapter], similarities: Sequence[float] | None = None) -> Verdict:
    """The adapter that fits the prompt best, with the concepts of every axis muted that the prompt specifies.

    `similarities` are the similarities of the prompt to the neutral prompt of each adapter, from a text encoder
    (arXiv 2509.15257, appendix 8.8). Without them the adapter is selected by keywords for the subject of the prompt.
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


def reason_to_leave(prompt: str, infos: Sequence[ConceptInfo]) -> str:
    """Why a prompt should not be made to show one of these groups, as a sentence; "" if it leaves them open."""
    read = Prompt(prompt)
    about_people = any(axis_of(info) in AXES for info in infos)
    if read.kind == "scene" and read.looks_english and not about_people:
        return ""
    return next(iter(_muted(read, infos).values()), "")


def first_person(prompt: str) -> int | None:
    """The index in the text of the first word for a person; None if there is none."""
    tags = [tag.span() for tag in _TAGS.finditer(prompt) if len(tag[0]) > 1]
    for word in _WORDS.finditer(prompt):
        hidden = any(start <= word.start() < end for start, end in tags)
        if not hidden and _is_person(_plain(word[0].lower())):
            return word.start()
    return None


def neutral_kind(adapter: Adapter) -> Kind:
    """The subject of the adapter's neutral prompt, which is what it was trained to steer."""
    return Prompt(neutral_prompt(adapter)).kind


def neutral_prompt(adapter: Adapter) -> str:
    """The first neutral prompt in the adapter's metadata, or "a person"."""
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
    """The fairness concepts to mute, with the reason for each."""
    fairness = [info for info in infos if info.category != "safety"]
    if not prompt.looks_english:
        why = "the prompt does not appear to be English, so it is unknown whether it names a group."
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
    """The word or phrase in the prompt that specifies an axis; None if there is none."""
    for words in (*AXES.get(axis, {}).values(), *map(_own_words, infos)):
        if said := prompt.names(words):
            return said
    phrases = (*PHRASES.get(axis, ()), *(word for info in infos for word in info.synonyms))
    return next((phrase for phrase in phrases if prompt.contains(" ".join(Prompt(phrase).words))), None)


def axis_of(info: ConceptInfo) -> str:
    """The axis of the concept: from its metadata, else from the word lists, else "groups"."""
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
    """The words of the target that are not in the neutral prompt; those that describe a person as adjectives."""
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
    """The index of the first word for a person, or the length of the clause if there is none."""
    return next((place for place, word in enumerate(clause) if _is_person(word)), len(clause))


def _describes_a_person(clause: tuple[str, ...], place: int, first_person: int) -> bool:
    """Whether the adjective at this index describes a person: "white male doctor", "a nurse who is white"."""
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
    """The word without the possessive 's."""
    return word.removesuffix("'s") or word


def _all_nouns(axes: Mapping[str, Mapping[str, GroupWords]]) -> Iterator[str]:
    for groups in axes.values():
        for words in groups.values():
            yield from words.nouns


_GROUP_NOUNS = frozenset(_all_nouns(AXES)) - {"her", "his", "hers", "him"}
