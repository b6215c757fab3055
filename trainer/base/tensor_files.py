"""The tensors of safetensors files as one set: headers are read at once, tensors on demand, with their scales."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from .base_model_error import BaseModelError

_LFS = b"version https://git-lfs"
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04")  # of torch.save: a zip archive, or the pickle itself
_PICKLE_SUFFIXES = (".ckpt", ".pth", ".pt", ".bin", ".pkl")
# What ComfyUI writes beside quantised weights: their scale (the second name is the older one), that of the input,
# and the format.
_SCALES = (".weight_scale", ".scale_weight")
_FORMAT = ".comfy_quant"
_BESIDE = (*_SCALES, ".weight_scale_2", ".pre_quant_scale", ".input_scale", ".scale_input", _FORMAT)
_MARK = "scaled_fp8"
_FORMATS = ("float8_e4m3fn", "float8_e5m2")


class TensorFiles:
    """Tensors by name, from one file or from the shards of one. Raises BaseModelError for unreadable files.

    `shapes` has all but the scales of quantised weights, with which `read` multiplies. `metadata` is the first file's.
    `dtypes` are the names that safetensors has for them (F16).
    """

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        self.name = name
        self.paths = tuple(paths)
        self.metadata: Mapping[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, str] = {}
        self._file_of: dict[str, Path] = {}
        for path in reversed(self.paths):
            self._read_header(path)

    def _read_header(self, path: Path) -> None:
        refuse_pointer(path)
        if path.suffix.lower() in _PICKLE_SUFFIXES:
            raise _pickled(path)
        try:
            with safe_open(path, "pt") as file:
                self.metadata = file.metadata() or {}
                slices = {name: file.get_slice(name) for name in file.keys()}
                shapes = {name: tuple(one.get_shape()) for name, one in slices.items()}
                self.dtypes |= {name: one.get_dtype() for name, one in slices.items()}
                formats = {_format(file.get_tensor(name)) for name in slices if name.endswith(_FORMAT)}
        except (SafetensorError, OSError, UnicodeDecodeError) as error:
            with path.open("rb") as opened:
                if opened.read(4).startswith(_PICKLES):
                    raise _pickled(path) from error
            raise BaseModelError(
                f"{path.name} cannot be read ({error}): it is cut short or not a safetensors file. Download it again."
            ) from error
        if others := sorted(formats - set(_FORMATS)):
            raise BaseModelError(
                f"{self.name} is quantised as {others[0]}, which only ComfyUI reads. Use its fp16, bf16 or fp8 "
                "version, or train in ComfyUI with RespoDiff Train Concept."
            )
        self._file_of |= dict.fromkeys(shapes, path)
        self.shapes |= {
            name: shape
            for name, shape in shapes.items()
            if not name.endswith(_BESIDE) and name.rpartition(".")[2] != _MARK
        }

    def below(self, *prefixes: str) -> Part:
        """The tensors with one of these prefixes: the first that occurs. They are named without it."""
        found = next((prefix for prefix in prefixes if any(name.startswith(prefix) for name in self.shapes)), None)
        if found is None:
            return Part(self, {})
        return Part(self, {name.removeprefix(found): name for name in self.shapes if name.startswith(found)})

    def read(self, names: Iterable[str], dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """These tensors on the CPU. Raises BaseModelError for NaN and infinite numbers."""
        with ExitStack() as opened:
            files = {path: opened.enter_context(safe_open(path, "pt")) for path in self.paths}
            try:
                return {name: self._tensor(files, name, dtype) for name in names}
            except (SafetensorError, OSError) as error:
                raise BaseModelError(f"{self.name} cannot be read ({error}). Download it again.") from error

    def _tensor(self, files: Mapping[Path, Any], name: str, dtype: torch.dtype) -> torch.Tensor:
        def get(name: str) -> torch.Tensor:
            tensor: torch.Tensor = files[self._file_of[name]].get_tensor(name)
            return tensor

        tensor = get(name)
        layer, _, parameter = name.rpartition(".")
        scale = next((layer + scale for scale in _SCALES if layer + scale in self._file_of), None)
        if parameter == "weight" and scale is not None:
            factor = get(scale).float()
            # One scale for all, or one per row.
            tensor = tensor.float() * factor.reshape(-1, *(1,) * (tensor.ndim - 1))
        # Copies: mapped tensors would change with the file, and crash the process if it is truncated.
        converted = tensor.to(dtype, copy=True)
        if not bool(converted.isfinite().all()):
            if bool(tensor.float().isfinite().all()):
                raise BaseModelError(
                    f"{name} in {self.name} has numbers that {str(dtype).removeprefix('torch.')} cannot hold. Use "
                    "--precision bfloat16 or float32."
                )
            raise BaseModelError(f"{name} in {self.name} has NaN or infinite numbers: the model is damaged.")
        return converted


class Part:
    """Some tensors of files, by names of their own."""

    def __init__(self, files: TensorFiles, names: Mapping[str, str]) -> None:
        self.file = files.name
        self.shapes = {name: files.shapes[full] for name, full in names.items()}
        self._files = files
        self._names = dict(names)

    def __bool__(self) -> bool:
        return bool(self._names)

    @property
    def dtypes(self) -> list[str]:
        """Those of the tensors, the most frequent first."""
        return [dtype for dtype, _ in Counter(self._files.dtypes[full] for full in self._names.values()).most_common()]

    def without(self, *prefixes: str) -> Part:
        """Those without one of these prefixes."""
        return Part(self._files, {name: full for name, full in self._names.items() if not name.startswith(prefixes)})

    def only(self, name: str) -> Part:
        """The tensor of this name, if there is one."""
        return Part(self._files, {name: self._names[name]} if name in self._names else {})

    def on_meta(self) -> dict[str, torch.Tensor]:
        """Tensors of their shapes, without numbers."""
        return {name: torch.empty(shape, device="meta") for name, shape in self.shapes.items()}

    def read(self, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """See TensorFiles.read."""
        read = self._files.read(self._names.values(), dtype)
        return {name: read[full] for name, full in self._names.items()}


def refuse_pointer(path: Path) -> None:
    """Raise BaseModelError for a file that cannot be opened, or is a Git LFS pointer in place of a file."""
    try:
        with path.open("rb") as file:
            first = file.read(len(_LFS))
    except OSError as error:
        raise BaseModelError(f"{path.name} cannot be read ({error}).") from error
    if first == _LFS:
        raise BaseModelError(
            f"{path.name} is a Git LFS pointer, not the file itself: run `git lfs pull` in its folder, or download it."
        )


def _pickled(path: Path) -> BaseModelError:
    return BaseModelError(
        f"{path.name} is not a .safetensors file; pickles (.ckpt, .pth, .bin) can run code when they are opened. Use "
        "the model's .safetensors version, or convert it with a tool that you trust."
    )


def _format(told: torch.Tensor) -> str:
    """The format of a quantised weight, as ComfyUI tells it in JSON beside the weight."""
    try:
        return str(json.loads(bytes(told.tolist()))["format"])
    except (ValueError, KeyError, TypeError):
        return "an unknown format"
