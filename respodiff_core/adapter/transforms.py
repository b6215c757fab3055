"""RAM and SAM modules: functions of h, defined by their kind and tensors.

`constant` and `channel` do not depend on h (arXiv 2509.15257, section 4: one learned tensor, the same at every step);
`mlp` and `conv` do (the paper's ablation of module architectures). In shapes, C is the number of channels of the
bottleneck, H and W are its height and width in training, and M is the hidden width of a module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from types import MappingProxyType

import torch
import torch.nn.functional as F

from ..errors import AdapterFileError
from ..names import Kind
from ..plain_text import listed, quoted

_Shape = tuple[str | int, ...]
PARAMETERS: dict[Kind, dict[str, _Shape]] = {
    "channel": {"": ("C", 1, 1)},
    "constant": {"": ("C", "H", "W")},
    "mlp": {
        "fc1.weight": ("M", "C"),
        "fc1.bias": ("M",),
        "fc2.weight": ("C", "M"),
        "fc2.bias": ("C",),
    },
    "conv": {
        "conv1.weight": ("M", "C", 3, 3),
        "conv1.bias": ("M",),
        "conv2.weight": ("M", "M", 3, 3),
        "conv2.bias": ("M",),
        "conv3.weight": ("C", "M", 3, 3),
        "conv3.bias": ("C",),
    },
}
"""Names (after `<concept>.ram` or `<concept>.sam`) and shapes of the parameters of each kind."""

LARGEST_NATIVE_SIZE = 256
"""Maximum H and W of a constant: the bottleneck of an image 16384 pixels wide (SDXL: 8192).

Resampling or drawing a constant takes memory proportional to the product of both sizes, even if the file is small.
"""


@dataclass(frozen=True)
class Transform:
    """A RAM or SAM: `transform(h)` is added to h at strength 1.

    `tensors` maps the names in `PARAMETERS[kind]` to floating point tensors. Create it with `Transform.of`, which
    checks names and shapes.
    """

    kind: Kind
    tensors: Mapping[str, torch.Tensor]

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor], owner: str = "module") -> Transform:
        """The transform with these tensors. Its kind follows from their names and shapes (see PARAMETERS).

        `owner` is the module's name in error messages. Raises AdapterFileError, which gives the expected and the
        actual shapes.
        """
        kind = kind_of({name: tuple(tensor.shape) for name, tensor in tensors.items()}, owner)
        return cls(kind, MappingProxyType(dict(tensors)))

    @property
    def channels(self) -> int:
        """C, the number of channels of the h-space."""
        return channels_of(self.kind, {name: tensor.shape for name, tensor in self.tensors.items()})

    @property
    def native_size(self) -> tuple[int, int] | None:
        """(H, W) of a constant, the size of h in training; None for kinds that fit any size."""
        return tuple(self.tensors[""].shape[1:]) if self.kind == "constant" else None  # type: ignore[return-value]

    @property
    def depends_on_h(self) -> bool:
        """Whether the result depends on h (mlp, conv) or only on its size (constant, channel)."""
        return self.kind in ("mlp", "conv")

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Transform:
        """The transform with its tensors on the given device and in the given dtype."""
        moved = {name: tensor.to(device=device, dtype=dtype) for name, tensor in self.tensors.items()}
        return replace(self, tensors=MappingProxyType(moved))

    def detach(self) -> Transform:
        """The transform with detached tensors, which receive no gradients."""
        detached = {name: tensor.detach() for name, tensor in self.tensors.items()}
        return replace(self, tensors=MappingProxyType(detached))

    def scaled(self, strength: float) -> Transform:
        """The transform with its output multiplied by `strength`."""
        last = {"mlp": ("fc2.weight", "fc2.bias"), "conv": ("conv3.weight", "conv3.bias")}.get(self.kind, ("",))
        tensors = {name: tensor * strength if name in last else tensor for name, tensor in self.tensors.items()}
        return replace(self, tensors=MappingProxyType(tensors))

    def averaged_over_space(self) -> Transform:
        """A channel transform (C, 1, 1) with the spatial mean of a constant; a channel transform is unchanged.

        Raises AdapterFileError for mlp and conv, since their output depends on h.
        """
        if self.depends_on_h:
            raise AdapterFileError(f"A module of kind {self.kind} depends on h and cannot be averaged over space.")
        return Transform.of({"": self.tensors[""].mean(dim=(1, 2), keepdim=True)})

    def field(self, height: int, width: int) -> torch.Tensor:
        """The tensor that is added to an h of this size: (C, height, width) for constant, (C, 1, 1) for channel.

        A constant of another native size is resampled bilinearly. Antialiasing preserves its mean when h is smaller,
        so that a strength has the same meaning at every size.
        """
        value = self.tensors[""]
        if self.kind == "channel" or value.shape[1:] == (height, width):
            return value
        return resampled(value[None], height, width)[0]

    def __call__(self, h: torch.Tensor) -> torch.Tensor:
        """The tensor that is added to h (N, C, height, width) at strength 1; it broadcasts against h."""
        t = self.tensors
        if self.kind == "mlp":
            hidden = F.silu(F.linear(h.movedim(1, -1), t["fc1.weight"], t["fc1.bias"]))
            return F.linear(hidden, t["fc2.weight"], t["fc2.bias"]).movedim(-1, 1)
        if self.kind == "conv":
            hidden = F.silu(F.conv2d(h, t["conv1.weight"], t["conv1.bias"], padding=1))
            hidden = F.silu(F.conv2d(hidden, t["conv2.weight"], t["conv2.bias"], padding=1))
            return F.conv2d(hidden, t["conv3.weight"], t["conv3.bias"], padding=1)
        return self.field(h.shape[-2], h.shape[-1])


def resampled(field: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """A field (N, C, H, W) at another size, bilinearly; antialiasing preserves its mean where it becomes smaller."""
    return F.interpolate(field, size=(height, width), mode="bilinear", antialias=True, align_corners=False)


def initial(
    kind: Kind, shape: tuple[int, int, int], hidden: int, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """Initial tensors of a module for training. The initial module adds exactly zero.

    `shape` is (C, H, W) of h, `hidden` the hidden width M of mlp and conv. Constants are initialised with zeros. In mlp
    and conv only the last layer is, so that gradients reach the other layers.
    """
    sizes = dict(zip("CHW", shape, strict=True)) | {"M": hidden}
    *_, last = (name for name in PARAMETERS[kind] if name.endswith("weight") or not name)
    tensors = {}
    for name, symbols in PARAMETERS[kind].items():
        size = [sizes[symbol] if isinstance(symbol, str) else symbol for symbol in symbols]
        tensors[name] = torch.zeros(size)
        if name.endswith("weight") and name != last:
            tensors[name].normal_(std=prod(size[1:]) ** -0.5, generator=generator)
    return tensors


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether the tensor contains neither NaN nor infinity."""
    # A finite sum proves that all values are finite, in a sixth of the time; but a sum of finite values may overflow.
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def kind_of(shapes: Mapping[str, tuple[int, ...]], owner: str = "module") -> Kind:
    """The kind with these parameter names and shapes. No tensor data is needed.

    Raises AdapterFileError if the names match no kind, or if a shape does not match or is too large for any model.
    """
    named = [kind for kind, parameters in PARAMETERS.items() if parameters.keys() == shapes.keys()]
    if not named:
        known = "; ".join(f"{kind}: {', '.join(p or '(bare)' for p in names)}" for kind, names in PARAMETERS.items())
        found = listed(quoted(name) if name else "(bare)" for name in sorted(shapes))
        raise AdapterFileError(f"{owner} has the tensors [{found}], which match no kind of module ({known}).")
    for kind in named:
        if _fits(PARAMETERS[kind], shapes):
            if kind == "constant" and max(shapes[""][1:]) > LARGEST_NATIVE_SIZE:
                raise AdapterFileError(
                    f"{owner} has the shape {_spell(shapes)}, but height and width must be at most "
                    f"{LARGEST_NATIVE_SIZE} x {LARGEST_NATIVE_SIZE}."
                )
            return kind
    expected = " or ".join(_spell(PARAMETERS[kind]) for kind in named)
    raise AdapterFileError(f"{owner} has the shapes {_spell(shapes)}; expected {expected}.")


def channels_of(kind: Kind, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """C, the number of channels of the h-space, from the shapes of a module."""
    name, pattern = next(iter(PARAMETERS[kind].items()))
    return shapes[name][pattern.index("C")]


def _fits(pattern: Mapping[str, _Shape], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether the shapes match the pattern, in which each letter stands for a single size."""
    letters: dict[str, int] = {}
    for name, symbols in pattern.items():
        if len(symbols) != len(shapes[name]):
            return False
        for symbol, size in zip(symbols, shapes[name], strict=True):
            bound = letters.setdefault(symbol, size) if isinstance(symbol, str) else symbol
            if size != bound or size < 1:
                return False
    return True


def _spell(shapes: Mapping[str, tuple[str | int, ...]]) -> str:
    return ", ".join(f"{name + ' ' if name else ''}({', '.join(map(str, shape))})" for name, shape in shapes.items())
