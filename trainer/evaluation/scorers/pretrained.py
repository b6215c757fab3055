"""Image networks of transformers, from a folder or the Hugging Face Hub."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig

from ....respodiff_core.errors import RespoDiffError, reason_of

# A head on top of DINO's features. Published files often lack it; transformers then initializes it at random.
_UNUSED = "pooler."


class Pretrained(NamedTuple):
    """A network in fp32 with its processor, and a fingerprint of its weights and of the processor."""

    model: Any
    processor: Any
    fingerprint: str


def load_pretrained(
    spec: str, device: torch.device | str, loaders: tuple[Any, Any], kinds: tuple[str, ...], option: str
) -> Pretrained:
    """The model `spec` (a folder or Hub id), of one of these `kinds`, loaded by the classes for the model and its
    processor. Raises RespoDiffError, which names the command line `option`.
    """
    try:
        model, processor = _load(spec, loaders, kinds, option)
    except RespoDiffError:
        raise
    except Exception as error:  # the libraries' errors have no common class
        instead = (
            f"Name another folder with {option}, or a model on the Hugging Face Hub."
            if Path(spec).exists()
            else f"Download it with `hf download {spec}`, or name its folder with {option}."
        )
        raise RespoDiffError(f"{spec} could not be loaded ({reason_of(error)}). {instead}") from error
    fingerprint = f"{model.config.model_type} {_digest(model, processor)[:16]}"
    return Pretrained(model.to(device).eval(), processor, fingerprint)


def _load(spec: str, loaders: tuple[Any, Any], kinds: tuple[str, ...], option: str) -> tuple[Any, Any]:
    kind = AutoConfig.from_pretrained(spec, trust_remote_code=False).model_type
    # transformers would fill in random weights for a model of the wrong kind, or an incomplete one.
    if kind not in kinds:
        raise RespoDiffError(f"{spec} is a model of type {kind}; {option} needs {' or '.join(kinds)}.")
    model, report = loaders[0].from_pretrained(spec, output_loading_info=True)
    if missing := sorted(name for name in report["missing_keys"] if not name.startswith(_UNUSED)):
        raise RespoDiffError(
            f"The weights of {spec} are incomplete: {len(missing)} are missing, e.g. {missing[0]}. Name another "
            f"model with {option}."
        )
    return model.float(), loaders[1].from_pretrained(spec)


def _digest(model: Any, processor: Any) -> str:
    preparation = getattr(processor, "image_processor", processor)
    digest = hashlib.sha256(preparation.to_json_string().encode())
    for name, tensor in sorted(model.state_dict().items()):
        if not name.startswith(_UNUSED):
            digest.update(name.encode())
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
