"""Reads untrusted files of `torch.save`: the pickle is parsed as data, and nothing in it is called.

torch's own restricted loading trusts the sizes that a file claims, decompresses without a limit, and in some versions
reads beyond the data. Here only the few pickle opcodes that a dictionary of tensors needs are interpreted, and only the
requested tensors are read.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch

from ..plain_text import quoted

_DTYPES = {
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch DoubleStorage": torch.float64,
}
_PICKLE_LIMIT = 1 << 16  # bytes; those of the reference code have a few hundred
_ENDS = 56 + 20 + 22  # bytes: zip64 end of central directory, its locator, end of central directory
_DIRECTORY_LIMIT = 1 << 20  # bytes of the zip's central directory


class TorchFileError(ValueError):
    """The file is not a plain dictionary of tensors; the message is part of a sentence that states the reason."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in the file: the record `storage` has `numbers` elements, and the tensor starts at element `offset`."""

    storage: str
    dtype: torch.dtype | None
    numbers: int
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class TorchFile:
    """An open file of `torch.save`, with its `tensors` by name. Their data is read on request.

    Raises TorchFileError for anything but a dictionary of tensors, and OSError from the file system.
    """

    def __init__(self, path: Path) -> None:
        _check_directory(path)
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
            raise TorchFileError(f"it was not written by torch.save ({quoted(str(error))})") from error
        try:
            self._records = self._zip.infolist()
            pickled = [record for record in self._records if record.filename.count("/") == 1]
            pickled = [record for record in pickled if record.filename.endswith("/data.pkl")]
            if len(pickled) != 1:
                raise TorchFileError("it was not written by torch.save")
            self._root = pickled[0].filename.removesuffix("data.pkl")
            self.tensors = tensors_of(self._read("data.pkl", _PICKLE_LIMIT))
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> TorchFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self._zip.close()

    def tensor(self, name: str) -> torch.Tensor:
        """The floating point tensor of that name, on the CPU. Raises TorchFileError for missing or invalid data."""
        stored = self.tensors[name]
        if stored.dtype is None:
            raise TorchFileError(f"{quoted(name)} is not a floating point tensor")
        whole = prod(stored.shape)
        size = stored.dtype.itemsize
        if stored.stride != _contiguous(stored.shape) or stored.offset + whole > stored.numbers or not whole:
            raise TorchFileError(f"{quoted(name)} is empty, not contiguous or larger than its storage")
        data = self._read(f"data/{stored.storage}", stored.numbers * size)
        if len(data) != stored.numbers * size:
            raise TorchFileError(f"{quoted(name)} should take {stored.numbers * size} bytes, but has {len(data)}")
        numbers = torch.frombuffer(bytearray(data), dtype=stored.dtype, count=whole, offset=stored.offset * size)
        return numbers.reshape(stored.shape)

    def _read(self, name: str, limit: int) -> bytes:
        """An uncompressed record, so that it takes no more memory than the file has bytes."""
        found = [record for record in self._records if record.filename == self._root + name]
        if len(found) != 1:
            raise TorchFileError(f"the record {quoted(name)} is missing or duplicated")
        (record,) = found
        if record.compress_type != zipfile.ZIP_STORED or record.file_size != record.compress_size:
            raise TorchFileError(f"its record {quoted(name)} is compressed")
        if record.file_size > limit:
            raise TorchFileError(f"its record {quoted(name)} is larger than expected")
        try:
            return self._zip.read(record)
        except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError, OverflowError) as error:
            raise TorchFileError(f"its record {quoted(name)} cannot be read ({quoted(str(error))})") from error


def _check_directory(path: Path) -> None:
    """Raise TorchFileError if the zip's central directory is too large to be parsed by `zipfile`, or incomplete."""
    with open(path, "rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(size - _ENDS, 0))
        end = file.read().rjust(_ENDS)
    large, at, plain = end[:-42], end[-42:-22], end[-22:]
    if not plain.startswith(b"PK\5\6") or plain[20:] != b"\0\0":
        raise TorchFileError("it was not written by torch.save, or is truncated")
    length = plain[12:16]
    if at.startswith(b"PK\6\7"):
        # zipfile uses the zip64 record if its signature matches. Only at this place do all readers find the same one.
        if not large.startswith(b"PK\6\6") or int.from_bytes(at[8:16], "little") != size - _ENDS:
            raise TorchFileError("it was not written by torch.save, or is damaged")
        length = large[40:48]
    if int.from_bytes(length, "little") > _DIRECTORY_LIMIT:
        raise TorchFileError("it has too many records")


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(prod(shape[place + 1 :]) for place in range(len(shape)))


@dataclass(frozen=True)
class _Storage:
    """A storage that tensors of the pickle refer to."""

    key: str
    dtype: torch.dtype | None
    numbers: int


@dataclass(frozen=True)
class _Global:
    """A global that the pickle refers to; it is never imported."""

    name: str


_MARK = object()
_ORDERED_DICT = _Global("collections OrderedDict")
_TENSOR = _Global("torch._utils _rebuild_tensor_v2")
_CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: _MARK,
}
_LITERALS = ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE")
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def tensors_of(pickled: bytes) -> dict[str, StoredTensor]:
    """The tensors of a pickled dictionary by name. Raises TorchFileError for every other pickle."""
    try:
        return _Reader(pickled).read()
    except TorchFileError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise TorchFileError(f"its pickle is damaged ({quoted(str(error))})") from error


class _Reader:
    """Interprets a pickle with a stack of plain values; opcodes that tensors do not need are refused."""

    def __init__(self, pickled: bytes) -> None:
        self._pickled = io.BytesIO(pickled)
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def read(self) -> dict[str, StoredTensor]:
        for code, argument, _ in pickletools.genops(self._pickled):
            if code.name == "STOP":
                return self._result()
            self._follow(code.name, argument)
        raise TorchFileError("its pickle is truncated")

    def _result(self) -> dict[str, StoredTensor]:
        (loaded,) = self._stack
        if not isinstance(loaded, dict) or not all(isinstance(one, StoredTensor) for one in loaded.values()):
            raise TorchFileError("it is not a dictionary of tensors")
        return loaded

    def _follow(self, code: str, argument: Any) -> None:
        stack = self._stack
        if code in _CONSTANTS:
            stack.append(_CONSTANTS[code]())
        elif code in _LITERALS:
            stack.append(argument)
        elif code in _TUPLES:
            count = _TUPLES[code]
            stack[-count:] = [self._tuple(stack[-count:])]
        elif code == "TUPLE":
            stack.append(self._tuple(self._marked()))
        elif code in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif code in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif code == "GLOBAL":
            stack.append(_Global(argument))
        elif code == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif code == "REDUCE":
            arguments = stack.pop()
            stack.append(_called(stack.pop(), arguments))
        elif code in ("SETITEM", "SETITEMS"):
            self._set(self._marked() if code == "SETITEMS" else [stack.pop(-2), stack.pop()])
        elif code == "BUILD":
            _check_attributes(stack.pop(), stack[-1])
        elif code != "PROTO":
            raise TorchFileError(f"it is not a dictionary of tensors (its pickle has {code})")

    def _marked(self) -> list[Any]:
        """Pop the values above the last mark."""
        values = []
        while (value := self._stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def _tuple(self, values: list[Any]) -> tuple[Any, ...]:
        if any(value is _MARK for value in values) or len(values) > 16:
            raise TorchFileError("its pickle is damaged")
        return tuple(values)

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise TorchFileError("its pickle is damaged")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str):
                raise TorchFileError("its dictionary has keys that are not strings")
            target[key] = value


def _called(what: Any, arguments: Any) -> Any:
    if what == _ORDERED_DICT and arguments == ():
        return {}
    if what == _TENSOR:
        storage, offset, shape, stride, *_ = arguments
        if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
            raise TorchFileError("one of its tensors has an invalid storage or shape")
        if not all(map(_is_size, (offset, storage.numbers, *shape, *stride))):
            raise TorchFileError("one of its tensors has an invalid size")
        return StoredTensor(storage.key, storage.dtype, storage.numbers, offset, shape, stride)
    raise TorchFileError(f"its pickle refers to {quoted(getattr(what, 'name', what))}")


def _storage(described: Any) -> _Storage:
    kind, stored, key, _device, numbers = described
    if kind != "storage" or not isinstance(stored, _Global) or not isinstance(key, str):
        raise TorchFileError("one of its tensors has an unknown kind of storage")
    return _Storage(key, _DTYPES.get(stored.name), numbers)


def _check_attributes(state: Any, of: Any) -> None:
    """Allow only `_metadata`, the module versions that torch sets on a state dict."""
    if not isinstance(of, dict) or not isinstance(state, dict) or state.keys() - {"_metadata"}:
        raise TorchFileError("it is not a dictionary of tensors (its pickle has BUILD)")


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 48
