"""Reads untrusted safetensors files: the header is validated, and the file is not memory-mapped.

The safetensors library before 0.8, which ComfyUI may have, always maps files into memory. If a mapped file is truncated
while it is read, the whole process crashes, and its header may be 100 MB of JSON. So adapters are read here, with
ordinary reads of the requested tensors. docs/contributing.md compares the alternatives.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite, prod
from pathlib import Path
from typing import Any, TypeGuard

import torch

from ..plain_text import quoted

HEADER_LIMIT = 1 << 21
"""Maximum size of a header in bytes, for reading and writing: enough for a thousand concepts with their metadata."""

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""The supported dtypes of tensors; a header may contain others."""
_SIZES = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"), 1),
}
_MOST_DIMENSIONS = 8
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)


class TensorFileError(ValueError):
    """The file is not a valid safetensors file; the message is part of a sentence that states the reason."""


@dataclass(frozen=True)
class TensorEntry:
    """A tensor in the file; `begin` and `end` are its byte offsets from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class TensorFile:
    """An open safetensors file: its `metadata`, and the `entries` of its tensors by name. Tensors are read on request.

    Raises TensorFileError for an invalid header, and OSError from the file system.
    """

    def __init__(self, path: Path) -> None:
        # Non-blocking, so that opening a named pipe does not wait for a writer.
        self._file = open(path, "rb", buffering=0, opener=lambda p, flags: os.open(p, flags | _NONBLOCK))  # noqa: SIM115
        try:
            self._state = self._stat()
            if not stat.S_ISREG(self._state.st_mode):
                raise TensorFileError("it is not a regular file")
            self.metadata, self.entries = self._header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def tensor(self, name: str) -> torch.Tensor:
        """A copy of the tensor on the CPU, in the stored dtype."""
        entry = self.entries[name]
        tensor = torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
        self._read(entry.begin, tensor.flatten().view(torch.uint8).numpy().data)
        return tensor

    def check_unchanged(self) -> None:
        """Raise TensorFileError if the file was written to since it was opened."""
        now = self._stat()
        if (now.st_size, now.st_mtime_ns) != (self._state.st_size, self._state.st_mtime_ns):
            raise TensorFileError("it changed while it was read")

    def _stat(self) -> os.stat_result:
        return os.fstat(self._file.fileno())

    def _header(self) -> tuple[dict[str, str], dict[str, TensorEntry]]:
        prefix = bytearray(8)
        self._read(0, memoryview(prefix))
        length = int.from_bytes(prefix, "little")
        if length > self._state.st_size - 8:
            raise TensorFileError(f"its header would take {length} bytes, but the file has {self._state.st_size}")
        if length > HEADER_LIMIT:
            raise TensorFileError(f"its header takes {length} bytes, more than the maximum of {HEADER_LIMIT}")
        text = bytearray(length)
        self._read(8, memoryview(text))
        header = parse_json(text)
        if not isinstance(header, dict):
            raise TensorFileError("its header is not a JSON object")
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise TensorFileError("its metadata is not an object of strings")
        entries = {name: _entry(name, described, 8 + length) for name, described in header.items()}
        _check_offsets(entries.values(), 8 + length, self._state.st_size)
        return metadata, entries

    def _read(self, begin: int, into: memoryview) -> None:
        self._file.seek(begin)
        while into:
            count = self._file.readinto(into)
            if not count:
                raise TensorFileError("it is truncated")
            into = into[count:]


def parse_json(text: bytes | bytearray | str) -> Any:
    """Parse strict JSON: without duplicate keys, NaN, infinity and unpaired surrogates. Raises TensorFileError."""
    try:
        decoded = text if isinstance(text, str) else text.decode()
        value = json.loads(
            decoded, object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_float, parse_int=_integer
        )
        if "\\u" in decoded:
            json.dumps(value, ensure_ascii=False).encode()  # raises UnicodeEncodeError for unpaired surrogates
    except (ValueError, RecursionError) as error:
        raise TensorFileError(f"it is not JSON ({error})") from error
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise ValueError("duplicate key")
    return entries


def _float(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"{quoted(text)} is too large a number")
    return value


def _integer(text: str) -> int | float:
    return -0.0 if text == "-0" else int(text)  # a float, so not a valid size, as in the safetensors library


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not allowed")


def _entry(name: str, described: object, data: int) -> TensorEntry:
    if not isinstance(described, Mapping):
        raise TensorFileError(f"the entry of {quoted(name)} is not an object")
    dtype, shape, offsets = (described.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in _SIZES:
        raise TensorFileError(f"{quoted(name)} has the unknown dtype {quoted(dtype)}")
    if not _are_sizes(shape) or len(shape) > _MOST_DIMENSIONS or not _are_sizes(offsets) or len(offsets) != 2:
        raise TensorFileError(f"{quoted(name)} has an invalid shape or invalid offsets")
    begin, end = offsets
    if end - begin != prod(shape) * _SIZES[dtype]:
        raise TensorFileError(f"{quoted(name)} of shape {quoted(tuple(shape))} cannot take {end - begin} bytes")
    return TensorEntry(dtype, tuple(shape), data + begin, data + end)


def _are_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)


def _check_offsets(entries: Iterable[TensorEntry], begin: int, end: int) -> None:
    """Raise TensorFileError unless the tensors fill the file from `begin` to `end` without gaps and overlaps."""
    ranges = sorted((entry.begin, entry.end) for entry in entries)
    for (_, before), (after, _) in pairwise([(0, begin), *ranges, (end, 0)]):
        if before != after:
            raise TensorFileError("its tensors overlap, leave gaps or extend beyond its end")
