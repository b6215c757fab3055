"""Sites: the places in a UNet where concepts act, by names that do not depend on the library that runs it.

`middle` is h, the output of the middle block, as the decoder reads it. All others are cross-attention layers and name
what the layer adds to the stream: `<kind>.<block>.<transformer block>` with the kinds `input`, `middle` and `output`,
and blocks counted as in ComfyUI and in the original layout of Stable Diffusion.
"""

from __future__ import annotations

from functools import lru_cache
from math import log


def attention_site(kind: str, block: int, transformer: int) -> str:
    """The name of a cross-attention layer."""
    return f"{kind}.{block}.{transformer}"


def run_order(site: str) -> tuple[int, ...]:
    """A sorting key: the order in which a UNet runs its sites."""
    kind, *numbers = site.split(".")
    return ["input", "middle", "output"].index(kind), *map(int, numbers)


@lru_cache(maxsize=256)
def size_at(tokens: int, height: int, width: int) -> tuple[int, int]:
    """(height, width) of a layer that has this many tokens for a latent of height x width.

    UNets halve the latent, rounding up. For other numbers of tokens (a patch that shrinks the input of blocks) it is
    the size of that many tokens whose aspect ratio is closest to the latent's.
    """
    high, wide = height, width
    while high * wide > tokens:
        high, wide = -(-high // 2), -(-wide // 2)
    if high * wide == tokens:
        return high, wide
    sizes = [(high, tokens // high) for high in range(1, tokens + 1) if tokens % high == 0]
    return min(sizes, key=lambda size: abs(log(size[0] * width / (size[1] * height))))
