"""What is thrown at the readers of strangers' files, and what must hold for every file whatever is in it.

A file is either refused with the project's own error, or what came of it can be used: shown, written and read again.
Nothing takes more than a second, or much more memory than the file has bytes.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from peak_memory import peak_bytes
from respodiff.respodiff_core.adapter import importers
from respodiff.respodiff_core.adapter.adapter import peek, read, to_bytes
from respodiff.respodiff_core.adapter.importers import import_weights
from respodiff.respodiff_core.adapter.summary import summarise
from respodiff.respodiff_core.errors import RespoDiffError
from respodiff.respodiff_core.names import MIDDLE
from respodiff.respodiff_core.plain_text import plain
from respodiff.respodiff_core.steering.prompt_guard import axis_of
from respodiff.respodiff_core.steering.steering import Steering, Term
from respodiff.trainer.evaluation.scorers.q16 import load_prompts
from safetensors.torch import load

MOST_SECONDS = 1.0
MOST_BYTES = 64 << 20  # beside some times the file's size
_OWN = None if (given := os.environ.get("FUZZ_FOLDER")) else tempfile.TemporaryDirectory(prefix="fuzz-")
_FOLDER = Path(given or _OWN.name)

# The reference code's files have columns of 81920 numbers; the way through the code is the same with four.
_SMALL_COLUMNS = {"_H_SHAPE": (4, 1, 1), "_ROWS": 4}


def adapter(data: bytes) -> None:
    """An adapter file: what is accepted is what the safetensors library finds in it, and survives writing."""
    path = _written(data, "adapter.safetensors")
    try:
        header, found = peek(path), read(path)
    except RespoDiffError as error:
        _check_message(error)
        return
    assert list(header.concepts) == list(found.concepts)
    tensors = load(data)
    assert len(tensors) == sum(len(concept.tensors()) for concept in found.concepts.values())
    for concept in found.concepts.values():
        axes = axis_of(concept.info), *concept.info.scales
        assert "".join(axes).isprintable()
        for name, tensor in concept.tensors().items():
            assert torch.equal(tensor, tensors[f"{concept.name}.{name}"].float())
        (group,) = Steering((Term(concept, 0.5),)).groups()
        for site, channels in concept.sites.items():
            h = torch.zeros(1, channels, 8, 8)
            if site == MIDDLE:
                assert (h + group.delta(h)).shape == h.shape
            else:
                x = h.flatten(2).mT
                assert (x + group.layer_delta(site, x, (8, 8))).shape == x.shape
    summarise(found).encode()
    assert summarise(read(_written(to_bytes(found), "again.safetensors"))).splitlines()[1:]


def torch_file(data: bytes) -> None:
    """A pickle of the reference code, between the files that tell what it holds."""
    listing, _, rest = data.partition(b"\0\0\0\0")
    _written(listing, "concept_dict.json")
    _written(listing, "config.yaml")
    try:
        with patch.multiple(importers, **_SMALL_COLUMNS):
            found = import_weights(_written(rest, "unet.pth"))
    except RespoDiffError as error:
        _check_message(error)
        return
    assert summarise(found)
    to_bytes(found)


def q16(data: bytes) -> None:
    """Q16's prompt embeddings."""
    try:
        prompts = load_prompts(_written(data, "prompts.p"))
    except RespoDiffError as error:
        _check_message(error)
        return
    assert prompts.dtype == np.float32
    assert len(prompts) == 2


TARGETS: dict[str, Callable[[bytes], None]] = {"adapter": adapter, "torch_file": torch_file, "q16": q16}


def run(name: str, data: bytes) -> None:
    """Throw `data` at a target. Raises AssertionError where it takes too long or too much."""
    before = peak_bytes()
    seconds = _seconds(name, data)
    if seconds >= MOST_SECONDS:  # a busy machine may have held it up; a file at fault is slow again
        seconds = _seconds(name, data)
    grown = peak_bytes() - before
    assert seconds < MOST_SECONDS, f"took {seconds:.2f} s"
    assert grown < MOST_BYTES + 8 * len(data), f"took {grown >> 20} MB for {len(data)} bytes"


def _seconds(name: str, data: bytes) -> float:
    began = time.monotonic()
    TARGETS[name](data)
    return time.monotonic() - began


def _written(data: bytes, name: str) -> Path:
    path = _FOLDER / name
    path.write_bytes(data)
    return path


def _check_message(error: RespoDiffError) -> None:
    """Messages are for a terminal and a page: of a bearable length, without control characters."""
    message = str(error)
    assert len(message) <= 4000, message[:400]
    assert message == plain(message, len(message)), ascii(message)
