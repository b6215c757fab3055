"""Reads untrusted files of `torch.save`, without running anything in them, whatever the version of torch.

torch's own restricted reader decompresses without a limit and, in versions that ComfyUI still runs on, can be made to
run code or to read beyond the data (docs/contributing.md). Here only uncompressed parts of a zip are read, and only
the tensors that its pickle describes, within the sizes that they really have.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from math import prod
from pathlib import Path

import torch

from ..plain_text import quoted
from .tensor_pickle import StoredTensor, TorchFileError, tensors_of

_LARGEST_FILE = 1 << 28  # bytes; those of the reference code have 7 million
_LARGEST_PICKLE = 1 << 16  # bytes; those of the reference code have a few hundred
_MOST_PARTS = 1000
_LOCAL = struct.Struct("<4s5H3L2H")
_RECORD, _END = struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s4H2LH")
_LOCATOR, _LARGER_END = struct.Struct("<4sLQL"), struct.Struct("<4sQ2H2L4Q")
_STORED, _ENCRYPTED = 0, 1
_OLD_FORMAT = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # a pickled number that torch wrote first


class TorchFile:
    """A file of `torch.save` with its `tensors` by name, as the pickle describes them.

    Raises TorchFileError for anything but a dictionary of tensors, and OSError from the file system.
    """

    def __init__(self, path: Path) -> None:
        if path.stat().st_size > _LARGEST_FILE:
            raise TorchFileError("it is too large")
        self._parts = _parts(path.read_bytes())
        pickled = [name for name in self._parts if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickled) != 1:
            raise TorchFileError("it was not written by torch.save")
        self._root = pickled[0].removesuffix("data.pkl")
        if len(self._parts[pickled[0]]) > _LARGEST_PICKLE:
            raise TorchFileError("its description of the tensors is larger than expected")
        self.tensors: Mapping[str, StoredTensor] = tensors_of(bytes(self._parts[pickled[0]]))

    def tensor(self, name: str) -> torch.Tensor:
        """The floating point tensor of that name, on the CPU. Raises TorchFileError for missing or invalid data."""
        stored = self.tensors[name]
        if stored.dtype is None:
            raise TorchFileError(f"{quoted(name)} is not a floating point tensor")
        whole = prod(stored.shape)
        size = stored.dtype.itemsize
        if stored.stride != _contiguous(stored.shape) or stored.offset + whole > stored.numbers or not whole:
            raise TorchFileError(f"{quoted(name)} is empty, not contiguous or larger than its storage")
        data = self._parts.get(f"{self._root}data/{stored.storage}")
        if data is None or len(data) != stored.numbers * size:
            found = 0 if data is None else len(data)
            raise TorchFileError(f"{quoted(name)} should take {stored.numbers * size} bytes, but has {found}")
        numbers = torch.frombuffer(bytearray(data), dtype=stored.dtype, count=whole, offset=stored.offset * size)
        return numbers.reshape(stored.shape)


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(prod(shape[place + 1 :]) for place in range(len(shape)))


def _parts(data: bytes) -> dict[str, memoryview]:
    """The contents of the zip's parts by name. Raises TorchFileError for compressed parts and for damage."""
    if data.startswith(_OLD_FORMAT):
        raise TorchFileError("it is in the format of torch before 1.6; load it with torch and save it again")
    if len(data) < _END.size or not data.startswith(b"PK\3\4"):
        raise TorchFileError("it was not written by torch.save, or is truncated")
    signature, _, _, _, count, length, start, comment = _END.unpack(data[-_END.size :])
    if signature != b"PK\5\6" or comment or start + length > len(data):
        raise TorchFileError("it was not written by torch.save, or is truncated")
    _check_larger_end(data, (count, length, start))
    if count > _MOST_PARTS:
        raise TorchFileError("it has too many parts")
    parts: dict[str, memoryview] = {}
    place = start
    for _ in range(count):
        if place + _RECORD.size > start + length:
            raise TorchFileError("its directory is damaged")
        fields = _RECORD.unpack_from(data, place)
        head, flags, method, packed, size = fields[0], fields[3], fields[4], fields[8], fields[9]
        name_length, extra, note = fields[10:13]
        checksum, local = fields[7], fields[16]
        name = data[place + _RECORD.size : place + _RECORD.size + name_length].decode("utf-8", "replace")
        if head != b"PK\1\2" or size > len(data):
            raise TorchFileError("its directory is damaged")
        if method != _STORED or packed != size or flags & _ENCRYPTED:
            raise TorchFileError(f"its part {quoted(name)} is compressed")
        content = _content(data, local, size)
        if zlib.crc32(content) != checksum:
            raise TorchFileError(f"its part {quoted(name)} is damaged (CRC)")
        parts[name] = content
        place += _RECORD.size + name_length + extra + note
    if place != start + length or len(parts) != count:
        raise TorchFileError("its directory is damaged")
    return parts


def _content(data: bytes, local: int, size: int) -> memoryview:
    """The content of a part, whose local header is at this place."""
    if local + _LOCAL.size > len(data):
        raise TorchFileError("its directory is damaged")
    signature, *_, name_length, extra = _LOCAL.unpack_from(data, local)
    start = local + _LOCAL.size + name_length + extra
    if signature != b"PK\3\4" or start + size > len(data):
        raise TorchFileError("its directory is damaged")
    return memoryview(data)[start : start + size]


def _check_larger_end(data: bytes, expected: tuple[int, int, int]) -> None:
    """Raise TorchFileError if the larger form of the zip's end, which torch writes and reads first, says otherwise."""
    locator = len(data) - _END.size - _LOCATOR.size
    if locator < 0 or data[locator : locator + 4] != b"PK\6\7":
        return
    place = locator - _LARGER_END.size
    if place < 0 or _LOCATOR.unpack_from(data, locator)[2] != place:
        raise TorchFileError("its end is damaged")
    signature, *_, count, length, start = _LARGER_END.unpack_from(data, place)
    if signature != b"PK\6\6" or (count, length, start) != expected:
        raise TorchFileError("its end is damaged")
