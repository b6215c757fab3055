"""Backward passes through weights that ComfyUI loaded in inference mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch


@contextmanager
def differentiable(module: torch.nn.Module) -> Iterator[None]:
    """Within the context, gradients flow through the frozen module, although its weights are inference tensors.

    Autograd refuses to save these for a backward pass. They are replaced by ordinary tensors on the same memory, so
    that no weight is copied or changed, and put back at the end. The module must not be moved in the meantime.
    """
    replaced: list[tuple[dict[str, Any], str, torch.Tensor]] = []
    with torch.inference_mode(False):
        try:
            for owner in module.modules():
                for held in cast("tuple[dict[str, Any], ...]", (owner._parameters, owner._buffers)):
                    for name, tensor in held.items():
                        # Subclasses (quantised weights) are converted by the layers that use them, to ordinary tensors.
                        if tensor is not None and tensor.is_inference() and type(tensor) in _PLAIN:
                            replaced.append((held, name, tensor))
                            held[name] = _on_same_memory(tensor)
            yield
        finally:
            for held, name, tensor in replaced:
                held[name] = tensor


_PLAIN = (torch.nn.Parameter, torch.Tensor)


def _on_same_memory(tensor: torch.Tensor) -> torch.Tensor:
    empty = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return empty.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())
