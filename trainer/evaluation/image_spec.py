"""What is asked of a model: prompts and seeds, with all that figures need to know of each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Asked:
    """One picture to make.

    `id` names it in files and tables, `group` what it is averaged within (a profession), `categories` what it counts
    for (I2P's, several at once). `turn` of `turns` is its place among the pictures of one prompt that the concepts of a
    setting share; 0 of 0 where they are shared over all pictures.
    """

    id: str
    prompt: str
    seed: int
    group: str = ""
    categories: tuple[str, ...] = ()
    turn: int = 0
    turns: int = 0
