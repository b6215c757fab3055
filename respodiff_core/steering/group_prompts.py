"""Prompts that name the group of each image, where the prompt leaves it open: fairness for any model, by text alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..adapter.concept import ConceptInfo
from ..errors import ShareError
from ..names import check_name
from .allocation import balanced, drawn
from .fair_groups import Allocation
from .prompt_guard import first_person, reason_to_leave
from .prompt_words import STOPS

PLACE = "{}"
UNNAMED = "none"
# A name has no brackets, so that "(female:1.2)" is words with a weight.
_LINE = re.compile(r"(?:(?!embedding:)(?P<name>[^:=()\[\]<>]+):)?(?P<words>.*?)(?:=\s*(?P<share>[^=]*))?")
_DETERMINERS = ("a", "an", "the", "this", "that", "one", "my", "his", "her", "their")
_ARTICLE = re.compile(r"\b(a|an)$", re.IGNORECASE)
_VOWELS = tuple("aeiou")


@dataclass(frozen=True)
class PromptGroup:
    """A group: its name, the words that name it in a prompt, and its share of the images."""

    name: str
    words: str
    share: float = 1.0


@dataclass(frozen=True)
class ImagePrompt:
    """The prompt of an image, and the name of its group."""

    text: str
    group: str


def groups_of(text: str) -> tuple[PromptGroup, ...]:
    """The groups of a text with one per line: 'female', 'woman: female' or 'woman: female = 2' with a share.

    Raises ShareError and AdapterFileError for lines that are none.
    """
    groups = []
    for line in filter(None, map(str.strip, text.splitlines())):
        found = _LINE.fullmatch(line)
        assert found is not None  # the pattern fits every line
        words = found["words"].strip()
        if not words:
            raise ShareError(
                f"The line {line!r} has no words: write them as 'female', 'woman: female' or 'female = 2'."
            )
        groups.append(PromptGroup(check_name(_name(found["name"] or words)), words, _share(found["share"], line)))
    names = [group.name for group in groups]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ShareError(f"The group {twice[0]!r} is listed twice: give each group its own name.")
    if not groups:
        raise ShareError("There is no group: write one per line, such as 'female' and 'male'.")
    return tuple(groups)


def image_prompts(
    prompt: str,
    groups: Sequence[PromptGroup],
    images: int,
    seed: int,
    allocation: Allocation = "balanced",
    *,
    none_share: float = 0.0,
    guarded: bool = True,
) -> tuple[tuple[ImagePrompt, ...], str]:
    """The prompt of each image, and why the prompt is left as it is, if it is.

    The words of a group take the place of PLACE in the prompt, or else stand before its first person. Without a prompt
    the words are the prompt. `none_share` is the share of images whose prompt is left as it is. Raises ShareError.
    """
    if not prompt.strip() and none_share:
        raise ShareError("none_share leaves images with the prompt alone, but the prompt is empty: write one.")
    reason = _reason(prompt, groups) if guarded and prompt.strip() and PLACE not in prompt else ""
    choices: list[PromptGroup | None] = [*groups, *([None] if none_share else [])]
    shares = [none_share if one is None else one.share for one in choices]
    numbers = balanced(shares, images, seed) if allocation == "balanced" else drawn(shares, images, seed)
    plain = ImagePrompt(tidy(prompt.replace(PLACE, "")), UNNAMED)
    given = [None if reason else choices[number] for number in numbers]
    return tuple(plain if one is None else ImagePrompt(naming(prompt, one.words), one.name) for one in given), reason


def naming(prompt: str, words: str) -> str:
    """The prompt with the words in it, with the article that fits them."""
    if not prompt.strip():
        return words
    if PLACE in prompt:
        before, *others = prompt.split(PLACE)
        for after in others:
            before = _joined(before, words, after)
        return before
    place = first_person(prompt)
    if place is None:
        return f"{prompt.rstrip().rstrip(',.')}, {words}"
    start = _after_determiner(prompt, place)
    return _joined(prompt[:start], words + " ", prompt[start:])


def tidy(prompt: str) -> str:
    """The prompt without the gaps that removed words leave."""
    return re.sub(r"\s+([,.;:!?])", r"\1", re.sub(r"[ \t]{2,}", " ", prompt)).strip()


def _reason(prompt: str, groups: Sequence[PromptGroup]) -> str:
    infos = [ConceptInfo(one.name, "fairness", naming("a person", one.words), "a person") for one in groups]
    return reason_to_leave(prompt, infos)


def _joined(before: str, words: str, after: str) -> str:
    """The parts together; "a" and "an" before the words as their first letter wants it."""
    article = _ARTICLE.search(before.rstrip())
    if article and words:
        right = "an" if words.casefold().startswith(_VOWELS) else "a"
        right = right.capitalize() if article[0][0].isupper() else right
        before = before[: article.start()] + right + before[article.end() :]
    return before + words + after


def _after_determiner(prompt: str, person: int) -> int:
    """Where words before a person go: after its determiner, if one is near in the same clause, else right before it."""
    words = list(re.finditer(r"[^\s,.;:!?()]+", prompt[:person]))
    for word in reversed(words):
        if word[0].casefold() in _DETERMINERS:
            return word.end() + 1
        if word[0].casefold() in STOPS or re.search(r"[,.;:!?()]", prompt[word.end() : person]):
            break
    return person


def _name(words: str) -> str:
    """Words as a name: without weights, and without what names may not have."""
    plain = re.sub(r":[\d.]+|embedding:|[()\[\]{}]", "", words)
    return " ".join(re.sub(r'[./\\:*?"<>|]', " ", plain).split())[:64].strip()


def _share(text: str | None, line: str) -> float:
    try:
        return 1.0 if text is None else float(text)
    except ValueError:
        raise ShareError(f"The share in {line!r} is not a number: write it as 'female = 2'.") from None
