"""A safetensors file from a stranger: its header is believed only where it can be true, and nothing is mapped.

The safetensors library maps files into memory, always before its version 0.8, and ComfyUI may have an older one. A
mapped file that is cut short while it is read ends the whole process, and its header may be 100 MB of JSON; so adapters
are read here, by ordinary reads of what was asked for. docs/contributing.md says what else was weighed.
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
"""Bytes of the longest header that is read or written: room for a thousand concepts and what is said of them."""

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""The types that tensors are read in; a header may name others."""
_SIZES = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"), 1),
}
_MOST_DIMENSIONS = 8
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)


class TensorFileError(ValueError):
    """The file is not a whole safetensors file; the message is a part of a sentence and says why."""


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor lies: `begin` and `end` are bytes from the file's beginning."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class TensorFile:
    """An open safetensors file: `metadata`, and `entries` of its tensors by name; tensors are read when asked for.

    Raises TensorFileError where header and file cannot belong together, and OSError as the file system does.
    """

    def __init__(self, path: Path) -> None:
        # Not to wait for the other end of what is no ordinary file.
        self._file = open(path, "rb", buffering=0, opener=lambda p, flags: os.open(p, flags | _NONBLOCK))  # noqa: SIM115
        try:
            self._state = self._stat()
            if not stat.S_ISREG(self._state.st_mode):
                raise TensorFileError("it is no ordinary file")
            self.metadata, self.entries = self._header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor of that name on the CPU, as stored, in memory of its own."""
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
            raise TensorFileError(f"its header would take {length} bytes and the file has {self._state.st_size}")
        if length > HEADER_LIMIT:
            raise TensorFileError(f"its header takes {length} bytes, more than the {HEADER_LIMIT} of any adapter")
        text = bytearray(length)
        self._read(8, memoryview(text))
        header = parse_json(text)
        if not isinstance(header, dict):
            raise TensorFileError("its header is no table")
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise TensorFileError("its metadata are not texts")
        entries = {name: _entry(name, described, 8 + length) for name, described in header.items()}
        _check_places(entries.values(), 8 + length, self._state.st_size)
        return metadata, entries

    def _read(self, begin: int, into: memoryview) -> None:
        self._file.seek(begin)
        while into:
            count = self._file.readinto(into)
            if not count:
                raise TensorFileError("it ends too early")
            into = into[count:]


def parse_json(text: bytes | bytearray | str) -> Any:
    """JSON as the standard has it: no key twice in a table, no NaN, and only text that can be written again.

    Raises TensorFileError.
    """
    try:
        decoded = text if isinstance(text, str) else text.decode()
        value = json.loads(
            decoded, object_pairs_hook=_table, parse_constant=_no_constant, parse_float=_float, parse_int=_integer
        )
        if "\\u" in decoded:
            json.dumps(value, ensure_ascii=False).encode()  # half a pair of surrogates is no text
    except (ValueError, RecursionError) as error:
        raise TensorFileError(f"it is not JSON ({error})") from error
    return value


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a key comes twice")
    return table


def _float(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"{quoted(text)} is too large a number")
    return value


def _integer(text: str) -> int | float:
    return -0.0 if text == "-0" else int(text)  # no size, as in the safetensors library


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _entry(name: str, described: object, data: int) -> TensorEntry:
    if not isinstance(described, Mapping):
        raise TensorFileError(f"{quoted(name)} is not described")
    dtype, shape, offsets = (described.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in _SIZES:
        raise TensorFileError(f"{quoted(name)} is of the unknown type {quoted(dtype)}")
    if not _are_sizes(shape) or len(shape) > _MOST_DIMENSIONS or not _are_sizes(offsets) or len(offsets) != 2:
        raise TensorFileError(f"{quoted(name)} has no shape or no place")
    begin, end = offsets
    if end - begin != prod(shape) * _SIZES[dtype]:
        raise TensorFileError(f"{quoted(name)} of shape {quoted(tuple(shape))} cannot take {end - begin} bytes")
    return TensorEntry(dtype, tuple(shape), data + begin, data + end)


def _are_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)


def _check_places(entries: Iterable[TensorEntry], begin: int, end: int) -> None:
    """Tensors fill the file from `begin` to `end`, one after another."""
    places = sorted((entry.begin, entry.end) for entry in entries)
    for (_, before), (after, _) in pairwise([(0, begin), *places, (end, 0)]):
        if before != after:
            raise TensorFileError("its tensors overlap, leave gaps or lie beyond its end")
