"""Good files to begin from, small ones."""

from __future__ import annotations

import io
import json
import pickle
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from adapters import random_adapter, random_contrast, random_gate
from respodiff.respodiff_core.adapter.adapter import Adapter, to_bytes
from respodiff.respodiff_core.adapter.importers import RAM_NAME, SAM_NAME
from respodiff.respodiff_core.adapter.transforms import PARAMETERS
from safetensors.torch import save


def seeds(target: str) -> Iterator[bytes]:
    return {"adapter": _adapters, "torch_file": _torch_files, "q16": _prompts}[target]()


def _adapters() -> Iterator[bytes]:
    for kind in PARAMETERS:
        adapter = random_adapter("woman", "man", kind=kind)
        yield to_bytes(adapter)
        yield to_bytes(adapter, torch.float16)
    for operation, parts in (("add", 1), ("move", 3)):
        concept = replace(random_contrast("woman", operation, parts=parts), gate=random_gate(groups=parts))
        yield to_bytes(Adapter("sd15", {"woman": concept}))
    adapter = random_adapter("woman")
    info = replace(
        adapter.concepts["woman"].info,
        latent_height=64,
        axis="gender",
        synonyms=("lady",),
        scales={"race": 1.1},
        guidance=((2.0, 2.5), (7.5, 1.0)),
        training={"steps": 3, "base_model": "a", "rates": [1, 2]},
    )
    yield to_bytes(replace(adapter, concepts={"woman": replace(adapter.concepts["woman"], info=info)}))
    yield save({"woman.ram": torch.ones(2, 1, 1), "woman.sam": torch.ones(2, 1, 1)})


def _torch_files() -> Iterator[bytes]:
    listing = json.dumps({"woman": 0, "man": 1}).encode()
    for beside, trained in ((b"", 1), (listing, 1), (b"concept:\n- old\n", 3)):
        weights = torch.ones(4, 10) * 0.1
        weights[:, trained] = 5
        for weight in (weights, weights.half(), weights.double()):
            yield beside + b"\0\0\0\0" + _saved({RAM_NAME: weight, SAM_NAME: weight.clone()})
    modules = OrderedDict({"module." + RAM_NAME: weights[:, :8].contiguous()})
    modules._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    yield listing + b"\0\0\0\0" + _saved(modules)


def _saved(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def _prompts() -> Iterator[bytes]:
    array = np.ones((2, 4), np.float16)
    for protocol in (3, 4):
        yield pickle.dumps(array, protocol)
    file = io.BytesIO()
    np.save(file, array)
    yield file.getvalue()
