"""Reads untrusted files of `torch.save` as dictionaries of tensors, by torch's restricted reader.

That reader runs no code, but it decompresses without a limit, and trusts the sizes that a file claims. So the zip's
directory is checked before, and the sizes of what was loaded before any of its numbers are read.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch

from ..plain_text import quoted

_LARGEST_FILE = 1 << 28  # bytes; those of the reference code have 7 million
_LARGEST_PART = 1 << 16  # bytes of every part but the tensors' numbers; those of the reference code have a few hundred
_MOST_PARTS = 1000
_LOCAL = struct.Struct("<4s5H3L2H")
_RECORD, _END = struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s4H2LH")
_LOCATOR, _LARGER_END = struct.Struct("<4sLQL"), struct.Struct("<4sQ2H2L4Q")
_STORED, _ENCRYPTED = 0, 1


class TorchFileError(ValueError):
    """The file is not a plain dictionary of tensors; the message is part of a sentence that states the reason."""


@dataclass(frozen=True)
class _Part:
    """A file in the zip."""

    name: str
    size: int


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors in the file by name, on the CPU. Raises TorchFileError, and OSError from the file system."""
    if path.stat().st_size > _LARGEST_FILE:
        raise TorchFileError("it is too large")
    data = path.read_bytes()
    numbers = _sizes_of_numbers(_parts(data))
    try:
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader raises whatever its parts raise
        raise TorchFileError(f"torch cannot read it as tensors ({_first_line(error)})") from error
    if not isinstance(loaded, dict) or not all(type(name) is str for name in loaded):
        raise TorchFileError("it is not a dictionary of tensors")
    for name, tensor in loaded.items():
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise TorchFileError("it is not a dictionary of tensors")
        if tensor.untyped_storage().nbytes() != numbers:
            raise TorchFileError(
                f"{quoted(name)} claims {tensor.untyped_storage().nbytes()} bytes, but the file has {numbers} of it"
            )
        if not tensor.is_floating_point():
            raise TorchFileError(f"{quoted(name)} is not a floating point tensor")
        if not tensor.is_contiguous() or not tensor.numel():
            raise TorchFileError(f"{quoted(name)} is empty or not contiguous")
    return loaded


def _sizes_of_numbers(parts: list[_Part]) -> int:
    """The size of each part with a tensor's numbers. It must be one for all, so that no tensor can claim another's."""
    roots = {part.name.partition("/")[0] for part in parts}
    sizes = {part.size for part in parts if part.name.partition("/")[2].startswith("data/")}
    others = [part.size for part in parts if not part.name.partition("/")[2].startswith("data/")]
    if len(roots) != 1 or not any(part.name.endswith("/data.pkl") for part in parts):
        raise TorchFileError("it was not written by torch.save")
    if max(others) > _LARGEST_PART:
        raise TorchFileError("its description of the tensors is larger than expected")
    if not sizes:
        raise TorchFileError("it is not a dictionary of tensors")
    if len(sizes) > 1:
        raise TorchFileError("its tensors are not all of one size")
    (size,) = sizes
    return size


def _parts(data: bytes) -> list[_Part]:
    """The zip's directory. Raises TorchFileError for compressed, encrypted and repeated parts, and for damage."""
    if len(data) < _END.size or not data.startswith(b"PK\3\4"):
        raise TorchFileError("it was not written by torch.save, or is truncated")
    signature, _, _, _, count, length, start, comment = _END.unpack(data[-_END.size :])
    if signature != b"PK\5\6" or comment or start + length > len(data):
        raise TorchFileError("it was not written by torch.save, or is truncated")
    _check_larger_end(data, (count, length, start))
    if count > _MOST_PARTS:
        raise TorchFileError("it has too many parts")
    parts: list[_Part] = []
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
        if zlib.crc32(_content(data, local, size)) != checksum:
            raise TorchFileError(f"its part {quoted(name)} is damaged (CRC)")
        parts.append(_Part(name, size))
        place += _RECORD.size + name_length + extra + note
    if place != start + length or len({part.name for part in parts}) < len(parts):
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


def _first_line(error: Exception) -> str:
    return quoted((str(error).splitlines() or [type(error).__name__])[0])
