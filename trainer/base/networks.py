"""UNet, text encoders and VAE from a config and tensors, which are checked against each other first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch

from .base_model_error import SUPPORTED, BaseModelError
from .conventions import Conventions

log = logging.getLogger(__name__)

_SHOWN = 3
_POOLED = 1280  # the width of the pooled text embedding


class Network:
    """A network of a base model, without its numbers at first. `name` is what it is and where, for messages.

    Raises BaseModelError unless `tensors`, which may be on the meta device, are those of `make`'s module, named by
    `key` of its names, and unless the module runs: `trial` calls it with tensors on the meta device. Tensors that the
    module does not have are left out, with a warning, as ComfyUI does.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        tensors: Mapping[str, torch.Tensor],
        name: str,
        *,
        trial: Callable[[Any], Any],
        key: Callable[[str], str] = str,
    ) -> None:
        self._name = name
        try:
            with torch.device("meta"):
                self._module = make()
        except Exception as error:  # whatever the library says to a config that it cannot use
            raise unusual(name, error) from error
        module = self._module.state_dict()
        self._key_of = {name: key(name) for name in module}
        self._shapes = {key(name): tuple(value.shape) for name, value in module.items()}
        self._check(tensors)
        try:
            with torch.device("meta"), torch.no_grad():
                trial(self._module.eval())
        except Exception as error:  # whatever the library says to a config that it cannot use
            raise unusual(name, error) from error

    def _check(self, tensors: Mapping[str, torch.Tensor]) -> None:
        missing = sorted(self._shapes.keys() - tensors.keys())
        if missing:
            raise BaseModelError(
                f"{self._name} is incomplete: of its {len(self._shapes)} tensors, {_listed(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} missing. Download it again, or use another version of it."
            )
        for key, shape in self._shapes.items():
            if tuple(tensors[key].shape) != shape:
                raise unusual(
                    self._name, f"{key} is {_size(tensors[key].shape)} in its weights, and {_size(shape)} by its config"
                )
        if others := sorted(tensors.keys() - self._shapes.keys()):
            log.warning("%s: %s not part of it; left out, as in ComfyUI.", self._name, _listed(others, "tensor"))

    def loaded(self, tensors: Mapping[str, torch.Tensor]) -> Any:
        """The module with its numbers, which are not copied."""
        wanted = {name: tensors[key] for name, key in self._key_of.items()}
        self._module.load_state_dict(wanted, strict=True, assign=True)
        return self._module


def unet_trial(conventions: Conventions) -> Callable[[Any], Any]:
    """Predict once, of a latent of 8 x 8."""

    def trial(unet: Any) -> None:
        added = {"text_embeds": torch.empty(1, _POOLED), "time_ids": torch.empty(1, 6)} if conventions.pooled else None
        context = torch.empty(1, 4, conventions.context)
        found = unet(torch.empty(1, 4, 8, 8), torch.empty(1), context, added_cond_kwargs=added).sample
        if found.shape != (1, 4, 8, 8):
            raise BaseModelError(f"it predicts {_size(found.shape)} of a latent of 1 x 4 x 8 x 8")

    return trial


def unusual(name: str, why: object) -> BaseModelError:
    """The error for a part that is not one of Stable Diffusion's."""
    lines = str(why).strip().splitlines() or [type(why).__name__]
    return BaseModelError(f"{name} is not built like Stable Diffusion's ({lines[-1].strip()}). {SUPPORTED}")


def _listed(names: list[str], what: str = "") -> str:
    """`a, b, c and 4 others`, with their number before if `what` they are is given."""
    shown = ", ".join(names[:_SHOWN])
    more = len(names) - _SHOWN
    listed = f"{shown} and {more} others" if more > 0 else shown
    if not what:
        return listed
    return f"{len(names)} {what}{'s are' if len(names) > 1 else ' is'} ({listed})"


def _size(shape: tuple[int, ...] | torch.Size) -> str:
    return " x ".join(map(str, shape)) or "a number"
